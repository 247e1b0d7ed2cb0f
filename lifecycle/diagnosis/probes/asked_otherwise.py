"""What the checkpoints say when they are asked in other ways than the evaluation asked: `diagnose --measure`.

Of all six problems there is something here: the same items in another way tell what a wrong answer is due to.
"""

import math

from lifecycle.diagnosis.probes.probe import Seen, knob, probe
from lifecycle.diagnosis.readings import between
from lifecycle.diagnosis.records import Records

NOT_YET = "needs the checkpoints to be asked: `diagnose --measure` does it"
FEW = 30  # items, below which nothing is said
Z = 1.96


@probe("knowledge")
def closed_book(run: Records) -> Seen | str:
    """Pairs of held-out texts that the base matches with their own next words, by log-probability.

    Both texts are of one source, and how likely either continuation is by itself cancels out: what is left is what was
    learned of what goes with what. Chance is one half; the shipped tiny base matches 96 % of 300 pairs, and one trained
    for 60 of its 800 steps 81 %.
    """
    if run.measured is None:
        return NOT_YET
    found = run.measured.found.continuations
    if found is None or found.of < FEW:
        return f"needs a base, and {FEW} pairs of held-out texts that can be cut in two"
    share = found.hits / found.of
    stage = "pretrain" if "pretrain" in run.manifests else "base"
    return Seen(
        strength=between(share + Z * math.sqrt(share * (1 - share) / found.of), 0.93, 0.78),
        says=f"of {found.of} pairs of held-out texts the base matches {share:.0%} with their own next words; 50 % is "
        "chance",
        seen=stage,
        source=f"{run.source(stage)}, --measure",
        stage=stage,
        refuted_by="a base that matches them and whose answers are as wrong",
        knobs=(knob(run, stage, "train the base longer, or on more text of this kind", times=2.0),),
    )


@probe("knowledge")
def record_in_context(run: Records) -> Seen | str:
    """The same questions behind the record they are about: what then becomes right was not known, and can be read.

    Retrieval in the prompt mends missing knowledge, and neither a wrong template nor a habit (Lewis et al. 2020,
    arxiv.org/abs/2005.11401).
    """
    found = _compared(run, "with_record")
    if isinstance(found, str):
        return found
    gain, spread, of, asked, other = found
    return Seen(
        strength=between(gain, 0.05, 0.3) if gain > spread else 0.0,
        says=f"with the record before the question {other:.0%} of {of} items are right, without it {asked:.0%}",
        seen="pretrain",
        source=f"{run.source(run.candidate or 'sft')}, --measure",
        stage="corpus",
        refuted_by="the same answers with what is asked for in the prompt",
        knobs=(
            knob(run, "evaluate", "give the record with the question, as a retriever would"),
            knob(run, "corpus", "add text that states what is asked"),
        ),
    )


@probe("behaviour")
def one_shot(run: Records) -> Seen | str:
    """The same questions behind one demonstration: what then becomes right is known, and was not shown how to say.

    What examples in the prompt mend is no lack of knowledge (Brown et al. 2020, arxiv.org/abs/2005.14165, section 3).
    """
    found = _compared(run, "one_shot")
    if isinstance(found, str):
        return found
    gain, spread, of, asked, other = found
    return Seen(
        strength=between(gain, 0.05, 0.3) if gain > spread else 0.0,
        says=f"behind one demonstration {other:.0%} of {of} items are right, without it {asked:.0%}",
        seen="sft",
        source=f"{run.source(run.candidate or 'sft')}, --measure",
        stage="sft",
        refuted_by="the same answers behind a demonstration",
        knobs=(knob(run, "sft", "train on the demonstrations longer"),),
    )


@probe("behaviour")
def loss_by_kind(run: Records) -> Seen | str:
    """What held-out demonstrations cost the SFT checkpoint, by kind: one far above the others was shown too little.

    Nats a token of the answer, over the median kind's; kinds of fewer than 5 rows say nothing.
    """
    if run.measured is None:
        return NOT_YET
    nats = {kind: loss.nats / loss.tokens for kind, loss in run.measured.found.losses.items() if loss.rows >= 5}
    if len(nats) < 3:
        return "fewer than three kinds of demonstrations have five held-out rows"
    median = sorted(nats.values())[len(nats) // 2]
    worst = max(nats, key=nats.__getitem__)
    return Seen(
        strength=between(nats[worst] - median, 0.5, 1.5),
        says=f"answers of kind {worst!r} cost {nats[worst]:.2f} nats a token, those of the median kind {median:.2f}",
        seen="sft",
        source=f"{run.source('sft')}, --measure",
        stage="demonstrations",
        refuted_by="as high a loss once that kind is demonstrated as often as the others",
        knobs=(knob(run, "demonstrations", f"add demonstrations of {worst}"),),
    )


@probe("protocol")
def template_variants(run: Records) -> Seen | str:
    """The same items with BOS doubled and without their system prompt: a way in which they come out better is the way
    the model was taught.

    A doubled BOS is what a server adds to a template that has one (Hugging Face chat templates, "add_special_tokens").
    A healthy model is no better in any other way than its own.
    """
    if run.measured is None:
        return NOT_YET
    seen = {name: _compared(run, name) for name in ("doubled_bos", "no_system")}
    known = {name: found for name, found in seen.items() if not isinstance(found, str)}
    if not known:
        return "; ".join(str(why) for why in seen.values())
    best = max(known, key=lambda name: known[name][0])
    gain, spread, of, asked, _ = known[best]
    said = ", ".join(f"{found[4]:.0%} {name.replace('_', ' ')}" for name, found in known.items())
    return Seen(
        strength=between(gain, 0.03, 0.2) if gain > spread else 0.0,
        says=f"of {of} items {asked:.0%} are right as asked, {said}",
        seen="evaluate",
        source=f"{run.source(run.candidate or 'sft')}, --measure",
        stage="tokenizer",
        refuted_by="the same answers in either way",
        knobs=(
            knob(run, "evaluate", f"ask as the model was taught ({best.replace('_', ' ')}), and find out which it was"),
        )
        if gain > spread
        else (),
    )


@probe("protocol")
def served_ids(run: Records) -> Seen | str:
    """Prompts that transformers renders from the checkpoint's folder, as servers do, to the ids that were evaluated."""
    if run.measured is None:
        return NOT_YET
    if run.measured.found.served is None:
        return "no item whose prompt transformers could render"
    odd, of = run.measured.found.served.of - run.measured.found.served.hits, run.measured.found.served.of
    return Seen(
        strength=between(odd / of, 0.0, 0.2),
        says=f"{odd} of {of} prompts would be other ids when transformers serves the checkpoint",
        seen="evaluate",
        source=f"{run.source(run.candidate or 'sft')}, --measure",
        stage="tokenizer",
        refuted_by="`python -m lifecycle handoff`, whose answers are those of the evaluation",
        knobs=(knob(run, "tokenizer", "use a template that both render alike: `talk --template` shows it"),),
    )


@probe("protocol")
def stop_rank(run: Records) -> Seen | str:
    """Where the stop token stands behind each demonstrated answer: far down, the model was never taught to stop."""
    if run.measured is None:
        return NOT_YET
    ranks = sorted(run.measured.found.stop_ranks)
    if len(ranks) < FEW:
        return f"fewer than {FEW} held-out demonstrations end in a stop token"
    low = sum(rank > 10 for rank in ranks)
    return Seen(
        strength=between(low / len(ranks), 0.05, 0.4),
        says=f"behind {len(ranks)} demonstrated answers the stop token is the first choice of "
        f"{sum(rank == 1 for rank in ranks)}, below the tenth of {low}; median rank {ranks[len(ranks) // 2]}",
        seen="sft",
        source=f"{run.source(run.candidate or 'sft')}, --measure",
        stage="sft",
        refuted_by="`python -m lifecycle show mask`, in which the stop token is coloured",
        knobs=(knob(run, "sft", "train with the stop token in the loss: `show mask` must colour it"),),
    )


@probe("eval_blindness")
def another_seed(run: Records) -> Seen | str:
    """Sampled answers with two seeds: how far a score moves by drawing alone, over the closest margin of the gate.

    With a share f of items that flip between seeds, a mean over n items moves by sqrt(f / n). An evaluation whose own
    noise is as wide as the margin decides by luck.
    """
    if run.measured is None:
        return NOT_YET
    if len(run.measured.found.seeds) != 2 or run.report is None:
        return "no sampled answers were drawn twice"
    one, other = run.measured.found.seeds
    both = [(one[key], other[key]) for key in one if one[key] is not None and other.get(key) is not None]
    if len(both) < FEW:
        return f"fewer than {FEW} items were measured with both seeds"
    flips = sum(a != b for a, b in both) / len(both)
    sampled = sum(item.mode == "sampled" for item in run.items)
    margins = [
        rule["margin"]
        for rule in run.config("gate").get("rules", ())
        if rule.get("kind") == "guard" and ".sampled_" in rule.get("metric", "")
    ]
    if not margins or not sampled:
        return "the gate has no margin on a sampled metric"
    noise = math.sqrt(flips / sampled)
    return Seen(
        strength=between(noise / min(margins), 0.5, 1.5),
        says=f"{flips:.0%} of {len(both)} items change with the seed: a sampled score over {sampled} items moves by "
        f"{noise:.1%} when it is drawn again, the gate's margin is {min(margins):.0%}",
        seen="evaluate",
        source=f"{run.source(run.candidate or 'sft')}, --measure",
        stage="evaluate",
        refuted_by="two evaluations with other seeds that come out alike",
        knobs=(knob(run, "evaluate", "score four times the items, or gate on greedy answers", times=4.0),),
    )


def _compared(run: Records, way: str) -> tuple[float, float, int, float, float] | str:
    """Of items measured both ways: the gain of the other way, its spread, how many, and both shares; or why not."""
    if run.measured is None:
        return NOT_YET
    if way in run.measured.found.faults:
        return run.measured.found.faults[way]
    asked, other = run.measured.found.scores.get("as_asked", {}), run.measured.found.scores.get(way, {})
    both = [(asked[key], value) for key, value in other.items() if value is not None and asked.get(key) is not None]
    if len(both) < FEW:
        return f"{way.replace('_', ' ')}: only {len(both)} of {len(other)} items could be measured, {FEW} are needed"
    before, after = (sum(float(pair[side] or 0) for pair in both) / len(both) for side in (0, 1))
    spread = Z * math.sqrt(max(1, sum(a != b for a, b in both))) / len(both)
    return after - before, spread, len(both), before, after
