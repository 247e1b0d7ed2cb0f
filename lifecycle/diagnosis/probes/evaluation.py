"""Eval blindness: the model may be fine or broken, and the evaluation cannot tell."""

from collections import Counter

from lifecycle.diagnosis.probes.probe import Seen, knob, probe
from lifecycle.diagnosis.readings import between
from lifecycle.diagnosis.records import Records

FEW = 30  # items, below which hardly any margin can be shown


@probe("eval_blindness")
def power(run: Records) -> Seen | str:
    """Rules that stayed open: the interval is wider than the margin, at these many items.

    An interval shrinks with the root of the items: (width / distance)^2 times as many would settle it.
    """
    if run.decision is None:
        return "the run has no gate decision"
    required = [check for check in run.decision.checks if check.required]
    still_open = [check for check in required if check.verdict == "INCONCLUSIVE"]
    failed = [check for check in required if check.verdict == "FAIL"]
    items = min((check.evaluated for check in required if check.evaluated), default=0)
    first = still_open[0] if still_open else None
    return Seen(
        strength=0.0 if not still_open or failed else max(0.5, between(items, 400, FEW)),
        says=f"{len(still_open)} of {len(required)} required rules stayed open at {items} items"
        + (f"; {first.metric}: {first.reason}" if first else ""),
        seen="gate",
        source=run.source("gate"),
        stage="evaluate",
        refuted_by="more items, and the rule fails",
        knobs=(knob(run, "evaluate", "score four times the items", times=4.0),) if still_open else (),
    )


@probe("eval_blindness")
def unmeasured(run: Records) -> Seen | str:
    """Items without a score, by reason. They are neither right nor wrong, and they widen every interval."""
    if not run.items:
        return "the run has no item records"
    reasons = Counter(item.unmeasured for item in run.items if item.unmeasured)
    share = sum(reasons.values()) / len(run.items)
    limit, needed = run.config("evaluate").get("max_new_tokens"), run.longest_answer
    short = limit is not None and needed is not None and limit < needed
    return Seen(
        strength=between(share, 0.02, 0.2) if short or "truncated" not in reasons else 0.3 * between(share, 0.02, 0.2),
        says=f"{sum(reasons.values())} of {len(run.items)} records have no score"
        + (f" ({', '.join(f'{count} {reason}' for reason, count in reasons.most_common(3))})" if reasons else "")
        + (f"; answers are cut at {limit} tokens, demonstrations have up to {needed}" if short else ""),
        seen="evaluate",
        source=run.source("evaluate"),
        stage="evaluate",
        failing=sum(reasons.values()),
        refuted_by="the same items measured, and wrong",
        knobs=(
            knob(run, "evaluate", "let answers be as long as they are", f"evaluate.max_new_tokens={2 * (needed or 1)}"),
        )
        if short
        else (),
    )


@probe("eval_blindness")
def seen_in_training(run: Records) -> Seen | str:
    """Items of a suite that share an n-gram with the training text: a score that memory could have made."""
    if run.report is None or not run.report.contamination:
        return "no suite was looked for in the training text"
    found = run.report.contamination
    worst = max(found, key=lambda name: found[name].contaminated / max(1, found[name].items))
    one = found[worst]
    return Seen(
        strength=between(one.contaminated / max(1, one.items), 0.02, 0.2),
        says=f"{one.contaminated} of {one.items} items of {worst} occur in the training text"
        + (f", {one.items - one.checked} are too short to tell" if one.checked < one.items else ""),
        seen="evaluate",
        source=run.source("evaluate"),
        stage="suites",
        refuted_by="the same score on the items that do not occur there",
        knobs=(knob(run, "suites", f"take out the items of {worst} that occur, or decontaminate against them"),)
        if one.contaminated
        else (),
    )


@probe("eval_blindness")
def wrong_gold(run: Records) -> Seen | str:
    """Items whose right answer contradicts the record in their own question."""
    rows = [
        row
        for name in (run.manifests["suites"].facts["items"] if "suites" in run.manifests else ())
        for row in run.suite(name)
        if isinstance(row.get("record"), dict) and "field" in row
    ]
    if not rows:
        return "no suite has items whose gold answer could be checked against a record"
    wrong = [row for row in rows if row["record"].get(row["field"]) != row.get("value")]
    return Seen(
        strength=between(len(wrong) / len(rows), 0.01, 0.1),
        says=f"{len(wrong)} of {len(rows)} items ask for another value than their record has",
        seen="suites",
        source=run.source("suites"),
        stage="suites",
        failing=len(wrong),
        examples=tuple(
            f"{row['id']}: gold {row.get('value')!r}, record {row['record'].get(row['field'])!r}" for row in wrong[:3]
        ),
        refuted_by="people who agree with the gold answers",
        knobs=(knob(run, "suites", "mend the gold answers that contradict their record"),) if wrong else (),
    )


@probe("eval_blindness")
def room_to_move(run: Records) -> Seen | str:
    """Whether the suite can tell models apart at all: copies of items, or questions that need no reading.

    An item asked twice counts once. Where the commonest answer to each field is nearly always right, a model that
    learned only that looks as good as one that reads.
    """
    if run.report is None or not run.asked:
        return "no generated answers in the evaluation"
    prompts = {each.item.prompt_digest for each in run.asked}
    copies = 1 - len(prompts) / len(run.asked)
    suites = {each.item.suite for each in run.asked}
    trivial = max((run.report.baselines.get(f"{suite}.majority_answer", 0.0) for suite in suites), default=0.0)
    return Seen(
        strength=max(between(copies, 0.2, 0.7), between(trivial, 0.8, 0.95)),
        says=f"{len(prompts)} different questions among {len(run.asked)}; each field's commonest answer is right in "
        f"{trivial:.0%}",
        seen="suites",
        source=run.source("suites"),
        stage="suites",
        refuted_by="a suite of other items with the same result",
        knobs=(knob(run, "suites", "add items, of other records and other kinds"),),
    )
