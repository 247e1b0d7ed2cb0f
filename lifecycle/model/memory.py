"""Bytes one rank needs at every moment of a run of our own worker, from what the worker and DeepSpeed allocate.

Torch-free, so that a stage can ask before anything starts. `python -m benchmarks.memory` holds it to measured peaks:
never below, 10 % above at the median, 25 % at worst. What lies outside the allocator (a CUDA context, NCCL, the
imports of a CPU rank) is `OUTSIDE`, and no part of those numbers.
"""

from typing import NamedTuple

from lifecycle.model.activations import FP32, Head, Layer, head, layer
from lifecycle.model.states import (
    ALLREDUCED_AT_ONCE,
    DOUBLE,
    FETCHED_AT_ONCE,
    LIVE_AT_MOST,
    RANDOM_STATE,
    Moment,
    Run,
    States,
)

OUTSIDE = {"cuda": 2 * 2**30, "cpu": 2**30}
"""Set aside per rank for what torch's allocator does not hold. On a CPU the imports take 0.4 GiB (measured), and
gloo, rows read ahead and fragments the rest; on CUDA the context, NCCL's buffers and fragments are an allowance."""


def moments(run: Run) -> list[Moment]:
    """What a rank holds at the moments that can be the largest, in the order of a run."""
    states, inner, outer = States(run), layer(run.work), head(run.work, run.vocab_size)
    return [
        _start(states),
        *_forward_and_backward(states, inner, outer),
        *_step(states, outer),
        *_between(states, outer),
    ]


def peak(run: Run) -> Moment:
    """The moment a rank needs most."""
    return max(moments(run), key=lambda moment: moment.total)


def _start(states: States) -> Moment:
    """The model is built whole on every rank, then laid end to end beside itself, or cut."""
    whole, share, stage = states.parameters, states.share, states.run.zero.stage
    start = Moment("start", parameters=whole)
    if stage == 0:
        return start
    if stage == 3:
        # Parts, laid end to end beside themselves, and a gradient as large as the whole to try the optimizer with.
        flat = min(whole, FP32 * LIVE_AT_MOST)
        return max(start, Moment("start", parameters=2 * share, optimizer=share, buffers=flat), key=lambda m: m.total)
    return start.plus("start", buffers=max(FP32 * sum(states.groups[0]), 2 * share))


def _forward_and_backward(states: States, inner: Layer, outer: Head) -> list[Moment]:
    run, layers = states.run, states.run.work.model.layers
    base = _carried(states)
    _, fetched = states.gathered if run.zero.stage == 3 else (0, 0)
    live = min(fetched, FP32 * LIVE_AT_MOST)
    fetching = min(fetched, FP32 * FETCHED_AT_ONCE)
    refetching = fetching if fetched > live else 0
    base = base.plus("forward", parameters=live)
    kept, again = layers * inner.kept, 0
    weights_then = weights_later = layers * inner.weights + outer.weights
    if run.checkpointing:
        kept, again = layers * (inner.input + RANDOM_STATE) + outer.mask, inner.kept - inner.input + inner.weights
        weights_later = outer.weights
    activations = kept + outer.norm + outer.tables
    one_layer = inner.kept + inner.weights + inner.working + outer.mask
    head, first, embedding = _gradients_in_backward(states)
    layered = activations + weights_later - outer.weights
    return [
        # What ZeRO 3 fetched is copied out of one buffer, which lives until the last tensor in it was asked for. The
        # logits of the micro batch before are there until the loop has new ones.
        base.plus(
            "end of forward",
            activations=activations + weights_then + inner.cast,
            logits=outer.logits * min(2, run.accumulation),
            buffers=fetching,
        ),
        base.plus("loss", activations=activations + weights_later, logits=outer.logits + outer.loss),
        *(
            base.plus(
                name,
                activations=held,
                logits=outer.logits,
                gradients=made.gradients,
                buffers=made.buffers + refetching,
            )
            for name, held, made in (
                ("backward, head", layered + max(outer.working, outer.weights), head),
                ("backward, last layer", layered + again + inner.working, head),
                ("backward, first layer", one_layer + outer.tables, first),
                ("backward, embedding", outer.tables + inner.input, embedding),
            )
        ),
    ]


def _carried(states: States) -> Moment:
    """What is there when a micro batch begins: gradients of those before it, where there are any."""
    resident, offloaded = states.resident(), states.run.zero.offload_optimizer
    if states.run.accumulation == 1 or states.run.zero.stage == 3:
        return resident
    match states.run.zero.stage:
        case 0:
            return resident.plus("carried", gradients=states.parameters)
        case 1:  # its bucket is let go in the step
            return resident.plus("carried", gradients=states.parameters, buffers=states.bucket)
        case _:
            return resident.plus("carried", gradients=0 if offloaded else states.gradient_share)


class Made(NamedTuple):
    """What a backward pass has made besides activations, in bytes."""

    gradients: int
    buffers: int


def _gradients_in_backward(states: States) -> tuple[Made, Made, Made]:
    """Gradients and buffers behind the head, in the first layer, and at the embedding.

    A tied embedding's gradient from the head is held until the embedding's own is added to it, which makes a third.
    """
    run, bucket, embedding = states.run, states.bucket, states.embedding
    tied = embedding if run.work.model.tie_embeddings else 0
    matrix = FP32 * max(run.work.model.layer_tensors())
    waiting = matrix if matrix > bucket else 0  # too large for the bucket, it keeps its own place
    match run.zero.stage:
        case 0 | 1 if run.accumulation > 1:  # the bucket is among what is carried
            return Made(embedding, 0), Made(tied + matrix, 0), Made(2 * tied + embedding, 0)
        case 0 | 1:
            held = bucket if run.zero.stage == 1 else 0
            untied = 0 if tied else embedding
            return Made(embedding, held), Made(states.parameters - untied, held), Made(states.parameters + tied, held)
        case 2 if not states.reduces_early:  # everything waits in the bucket for the end
            return Made(embedding, bucket), Made(tied, bucket), Made(tied + embedding, bucket)
        case 2:
            share, reducing = states.gradient_share_here, bucket + states.in_bucket
            alone = states.largest if states.largest > bucket else 0  # the embedding is reduced at once, by itself
            layers = Made(share + tied + waiting, reducing)
            return layers, layers, Made(share + tied + embedding, bucket + alone)
        case _:  # ZeRO 3 has its bucket and its share already: what is reduced is copied once more
            copied = states.in_bucket if states.reduces_early else 0
            inside = tied + waiting
            return Made(max(embedding, inside), copied), Made(inside, copied), Made(tied + embedding, copied)


def _step(states: States, outer: Head) -> list[Moment]:
    """Gradients are reduced, their norm is taken tensor by tensor in double precision, and the optimizer steps."""
    run, resident = states.run, states.resident().plus("step", logits=outer.logits)
    share, moved = states.gradient_share_here, states.in_bucket
    if run.zero.stage == 0:
        flat = min(states.parameters, FP32 * ALLREDUCED_AT_ONCE)
        return [resident.plus("reduce", gradients=states.parameters, buffers=flat)]
    if run.zero.stage == 3:
        return [resident.plus("reduce", buffers=moved), *_stepping(states, resident)]
    # What is copied into the bucket leaves its own place; a tensor larger than the bucket stays where it is.
    copied = min(states.parameters, states.bucket) if states.largest <= states.bucket else 0
    unmoved = states.parameters - copied if run.zero.stage == 1 else 0
    reduce = resident.plus("reduce", gradients=unmoved, buffers=states.bucket)
    return [
        reduce.plus("reduce", buffers=moved),
        reduce.plus("reduce", gradients=share),
        *_stepping(states, resident.plus("step", gradients=share)),
    ]


def _stepping(states: States, resident: Moment) -> list[Moment]:
    in_double = DOUBLE // FP32 * (states.largest // (states.run.ranks if states.run.zero.stage == 3 else 1))
    return [resident.plus("step", buffers=max(0 if states.run.zero.offload_optimizer else states.share, in_double))]


def _between(states: States, outer: Head) -> list[Moment]:
    """Saving, validating, and writing the model down, which gathers or copies it whole on one rank."""
    resident = states.resident()
    _, fetched = states.gathered if states.run.zero.stage == 3 else (0, 0)
    return [
        resident.plus("save a checkpoint"),
        # Two batches of logits: the next ones are made while the last ones are still there.
        resident.plus("validate", logits=2 * outer.logits + outer.loss, parameters=min(fetched, FP32 * LIVE_AT_MOST)),
        resident.plus("write the model", buffers=states.parameters),
    ]


def generation(run: Run, *, items: int, number: int = FP32) -> Moment:
    """What the evaluate stage holds while it answers `items` prompts that fill a row, its numbers of `number` bytes.

    An upper bound, in a process of its own, and no part of `moments`: prompts are mostly shorter.
    """
    model = run.work.model
    cache = 2 * model.layers * model.kv_heads * model.head_size * items * (run.work.tokens + 1)
    return Moment(
        f"evaluate: {items} full rows",
        parameters=number * sum(States(run).tensors),
        activations=number * cache,
        logits=2 * FP32 * items * run.vocab_size,
    )
