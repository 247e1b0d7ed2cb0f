"""Protocol: the model was taught one way of speaking and is spoken to in another, or was taught the wrong tokens."""

import math
import random
from itertools import islice

from lifecycle.chat.render import load_renderer
from lifecycle.data.jsonl import load_rows
from lifecycle.diagnosis.probes.behaviour import OPENING, opening
from lifecycle.diagnosis.probes.probe import Seen, knob, probe
from lifecycle.diagnosis.readings import between
from lifecycle.diagnosis.records import RENDERED_ROWS, Asked, Records, failed
from lifecycle.evaluation.encode import Encoder, digest
from lifecycle.evaluation.grading import json_objects

# Words of the contracts that guard the protocol, as they stand in their messages.
REFUSALS = ("protocol", "template", "supervised", "assistant mask", "stop token", "golden", "rendered", "special token")
CUT = "truncated"


@probe("protocol")
def refused_by_a_contract(run: Records) -> Seen | str:
    """A run that a contract ended: it says itself what does not fit. Nothing below it was trained or served."""
    if run.state != "FAILED":
        return Seen(
            strength=0.0,
            says=f"no contract ended the run: it ended {run.state}",
            seen="base",
            source="run.json",
            stage="tokenizer",
            refuted_by="",
        )
    words = [word for word in REFUSALS if word in run.message.lower()]
    return Seen(
        strength=1.0 if words else 0.0,
        says=f"the run was ended with: {run.message}",
        seen=run.ended_in or "tokenizer",
        source="run.json",
        stage=run.ended_in or "tokenizer",
        refuted_by="the same command with the template and tokenizer as they were sealed, refused again",
        knobs=(knob(run, run.ended_in or "tokenizer", "do what the message says: put back what was sealed"),),
    )


@probe("protocol")
def one_protocol(run: Records) -> Seen | str:
    """Every artifact from the tokenizer to the report carries the digest of the protocol it was made with."""
    digests = {
        stage: facts["protocol_digest"]
        for stage, manifest in run.manifests.items()
        if (facts := manifest.facts).get("protocol_digest") and stage not in ("evaluate_live", "evaluate_base")
    }
    if len(digests) < 2:
        return "fewer than two artifacts carry a protocol"
    odd = [stage for stage, digest in digests.items() if digest != next(iter(digests.values()))]
    first = odd[0] if odd else next(iter(digests))
    return Seen(
        strength=1.0 if odd else 0.0,
        says=f"{', '.join(odd)} speak another protocol than {next(iter(digests))}"
        if odd
        else f"{len(digests)} artifacts carry one protocol, {digests[first][:12]}",
        seen=first,
        source=", ".join(run.source(stage) for stage in odd[:2]) or run.source(first),
        stage=first,
        refuted_by="equal digests everywhere",
        knobs=(knob(run, first, "make it again from the one tokenizer"),) if odd else (),
    )


@probe("protocol")
def supervised_tokens(run: Records) -> Seen | str:
    """Share of tokens the loss covered in SFT, against what the renderer gives for the demonstrations now.

    A mask that is off, shifted or loses the stop token changes this share and not the loss one looks at
    (nanochat #582: .04 of ChatCORE, training loss unchanged).
    """
    said = run.manifests["sft"].facts.get("supervised_share") if "sft" in run.manifests else None
    if said is None or "demonstrations" not in run.folders:
        return "needs an SFT checkpoint that says how much its loss covered, and its demonstrations"
    if run.manifests["sft"].facts.get("cut_rows"):
        return "rows were cut: their share is another than that of whole conversations"
    renderer, longest = load_renderer(run.folders["sft"]), run.manifests["sft"].facts.get("max_seq_len", math.inf)
    total = supervised = 0
    for row in islice(load_rows(run.folders["demonstrations"] / "train.jsonl"), RENDERED_ROWS):
        rendered = renderer.render(row["messages"])
        if len(rendered.ids) <= longest:  # longer ones were left out
            total, supervised = total + len(rendered.ids), supervised + sum(rendered.assistant_mask)
    share = supervised / max(1, total)
    return Seen(
        strength=between(abs(said - share) / max(share, 1e-9), 0.1, 0.3),
        says=f"the loss covered {said:.1%} of the tokens; {RENDERED_ROWS} rows rendered again have {share:.1%}",
        seen="sft",
        source=run.source("sft"),
        stage="sft",
        refuted_by="`python -m lifecycle show mask` shows answers and stop tokens in colour, and nothing else",
        knobs=(knob(run, "sft", "look at `python -m lifecycle show mask`, then train with the mask it should have"),),
    )


@probe("protocol")
def asked_as_rendered(run: Records) -> Seen | str:
    """The ids a model was asked with, against those its own template gives for the same items now.

    Item records name the ids of each prompt by a digest: a doubled BOS, a template edited for the evaluation or a
    dropped system prompt changes it (LLaMA-Factory #2509: 26 % against 57 %).
    """
    asked = [each for each in run.asked if each.item.kind == "contract"][:RENDERED_ROWS]
    if not asked or run.candidate is None:
        return "no items whose prompts can be rendered again"
    encoder = Encoder(load_renderer(run.folders[run.candidate]))
    odd = [each for each in asked if digest(encoder.prompt(each.row["messages"])) != each.item.prompt_digest]
    return Seen(
        strength=between(len(odd) / len(asked), 0.0, 0.2),
        says=f"{len(odd)} of {len(asked)} prompts were other ids than the checkpoint's template gives",
        seen="tokenizer",
        source=run.source("evaluate"),
        stage="evaluate",
        failing=len(failed(odd)),
        refuted_by="the same answers to prompts as they are rendered",
        knobs=(knob(run, "evaluate", "evaluate again with the checkpoint's own template and tokenizer"),),
    )


@probe("protocol")
def training_and_held_out_loss(run: Records) -> Seen | str:
    """The loss on demonstrations trained on, far above that on held-out ones: the two do not cover the same tokens.

    Training rows cannot be harder than held-out rows of the same kind once they were trained on. A mask that is off
    adds the prompts, which nobody can predict, to the one and not to the other. In the fault bench the one is 3.1 times
    the other with the mask off, 1.0 times in the healthy run, and 1.4 times where a rate far too low taught nothing:
    its held-out rows have none of the longer answers that a part of its training rows has.
    """
    trained, held = run.curve("sft", "loss"), run.curve("sft", "dev/loss")
    if not trained or not held:
        return "SFT has no curve of its loss on training and on held-out rows"
    late = [value for step, value in trained if step > 0.8 * trained[-1][0]]
    mean, dev = sum(late) / len(late), held[-1][1]
    return Seen(
        strength=between(mean / max(dev, 0.02), 1.7, 2.8),
        says=f"training loss {mean:.3f} at the end, {dev:.3f} on held-out demonstrations",
        seen="sft",
        source=f"{run.source('sft')}, step {trained[-1][0]}",
        stage="sft",
        refuted_by="`python -m lifecycle show mask` colours answers and stop tokens, and nothing else",
        knobs=(knob(run, "sft", "look at `python -m lifecycle show mask`, then train with the mask it should have"),),
    )


@probe("protocol")
def answers_end(run: Records) -> Seen | str:
    """Answers that hold what was asked and do not end: the stop token was not learned, or is not asked for.

    Cut answers are UNMEASURED in the report. Here only their beginning is read: the answer's own text says whether
    the model ran on behind something complete.
    """
    if not run.asked:
        return "no generated answers in the evaluation"
    unended = [each for each in run.asked if each.item.unmeasured == CUT or each.item.grades.get("stopped") == 0]
    limit = run.config("evaluate").get("max_new_tokens", 0)
    needed = run.longest_answer
    if needed is not None and limit and limit < needed:
        return f"the evaluation cuts answers at {limit} tokens and demonstrations have up to {needed}: it cannot tell"
    return Seen(
        strength=between(len(unended) / len(run.asked), 0.05, 0.5),
        says=f"{len(unended)} of {len(run.asked)} greedy answers do not end within {limit} tokens",
        seen="evaluate",
        source=run.source("evaluate"),
        stage="sft",
        failing=len(unended),
        examples=tuple((each.item.answer or "")[:160] for each in unended[:3]),
        refuted_by="the same questions with twice the tokens, of which the answers then end",
        knobs=(
            *(
                ()
                if needed  # every answer that was demonstrated would have ended within the limit
                else (
                    knob(
                        run,
                        "evaluate",
                        "allow twice the tokens, to see whether they end",
                        f"evaluate.max_new_tokens={2 * limit}",
                    ),
                )
            ),
            knob(run, "sft", "train on answers whose stop token is in the loss: `show mask` must colour it"),
        ),
    )


@probe("protocol")
def answers_after_sft_end(run: Records) -> Seen | str:
    """Right answers of the SFT checkpoint that run on: its stop token was not learned. Preferences can hide it.

    It says so of a checkpoint that learned the rest: one that is right in a quarter of its answers has not learned to
    answer, and the stop token is no news.
    """
    before = run.report_of("sft")
    if before is None:
        return "the SFT checkpoint was not evaluated on these items: `diagnose --measure` does it"
    asked = [each for each in run.asked_in(before) if "field" in each.row]
    limit, needed = run.config("evaluate").get("max_new_tokens", 0), run.longest_answer
    if not asked or (needed is not None and limit < needed):
        return "no answers whose right value is known, or they were cut"
    ran_on = [each for each in asked if each.item.unmeasured == CUT and _holds_the_answer(each)]
    right = len(ran_on) + sum(each.item.score == 1 for each in asked)
    return Seen(
        strength=between(len(ran_on) / len(asked), 0.05, 0.4) * between(right / len(asked), 0.25, 0.75),
        says=f"{right} of {len(asked)} greedy answers of the SFT checkpoint are right, and {len(ran_on)} of these do "
        "not end",
        seen="sft",
        source=run.source("sft"),
        stage="sft",
        examples=tuple((each.item.answer or "")[:160] for each in ran_on[:3]),
        refuted_by="`python -m lifecycle show mask` colours the stop token, and the loss covered it",
        knobs=(knob(run, "sft", "train on answers whose stop token is in the loss: `show mask` must colour it"),),
    )


@probe("protocol")
def answers_after_sft_open(run: Records) -> Seen | str:
    """Answers of the SFT checkpoint that open as no demonstration does, though it learned what its loss covered.

    A mask that begins late leaves the first tokens of every answer out: what comes next is learned, how to begin is
    not. Openings are two characters; how often demonstrations that were not counted open otherwise is taken off.
    """
    before, learned = run.report_of("sft"), run.curve("sft", "token_accuracy")
    if before is None or not learned or "demonstrations" not in run.folders:
        return "needs demonstrations, their curve in SFT, and its checkpoint evaluated: `diagnose --measure` does it"
    rows = islice(load_rows(run.folders["demonstrations"] / "train.jsonl"), 2 * RENDERED_ROWS)
    opened = [opening(row["messages"]) for row in rows]
    random.Random(0).shuffle(opened)  # files are sorted, or alternate
    known, others = set(opened[::2]), opened[1::2]
    said = [each.item.answer for each in run.asked_in(before) if each.item.answer]
    if not said or not others:
        return "too few demonstrations or answers to compare how they open"
    odd = [answer for answer in said if answer[:OPENING] not in known]
    share = len(odd) / len(said) - sum(one not in known for one in others) / len(others)
    return Seen(
        strength=between(share, 0.05, 0.4) * between(learned[-1][1], 0.6, 0.8),
        says=f"{len(odd)} of {len(said)} greedy answers of the SFT checkpoint open as no demonstration does; "
        f"{learned[-1][1]:.1%} of the tokens in its loss are the likeliest ones",
        seen="sft",
        source=run.source("sft"),
        stage="sft",
        examples=tuple(answer[:160] for answer in odd[:3]),
        refuted_by="`python -m lifecycle show mask` colours the first token of an answer, and the loss covered it",
        knobs=(knob(run, "sft", "train on whole answers, their first tokens too: `show mask` must colour them"),),
    )


def _holds_the_answer(each: Asked) -> bool:
    """Whether an answer begins with the object that was asked for, with the right value."""
    found = json_objects(each.item.answer or "")
    return bool(found) and found[0][2] == {each.row["field"]: each.row.get("value")}


@probe("protocol")
def speaks_our_tokens(run: Records) -> Seen | str:
    """Answers that open with what belongs to the template: a role, a marker, a turn of the user's."""
    if not run.asked or run.candidate is None:
        return "no generated answers in the evaluation"
    said = [each.item.answer for each in run.asked if each.item.answer]
    marked = [
        text for text in said if text.lstrip().lower().startswith(("<|", "user", "assistant", "system", "[inst]"))
    ]
    return Seen(
        strength=between(len(marked) / max(1, len(said)), 0.02, 0.3),
        says=f"{len(marked)} of {len(said)} answers begin with a role or a marker of the template",
        seen="evaluate",
        source=run.source("evaluate"),
        stage="sft",
        failing=len(marked),
        examples=tuple(text[:160] for text in marked[:3]),
        refuted_by="answers that are wrong without it",
        knobs=(knob(run, "evaluate", "compare `talk --template` with the demonstrations: the prompt must end alike"),),
    )
