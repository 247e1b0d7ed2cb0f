"""Eval blindness: the model may be fine or broken, and the evaluation cannot tell."""

from collections import Counter

from lifecycle.artifacts import EvalReport
from lifecycle.diagnosis.probes.probe import Seen, knob, probe
from lifecycle.diagnosis.readings import Knob, between
from lifecycle.diagnosis.records import Records

CEILING = 0.995
FEW = 30  # items, below which hardly any margin can be shown


@probe("eval_blindness")
def power(run: Records) -> Seen | str:
    """Rules that stayed open: the interval is wider than the margin, at these many items.

    An interval shrinks with the root of the items: (width / distance)^2 times as many would settle it.
    """
    if run.decision is None:
        return "the run has no gate decision"
    required = [check for check in run.decision.checks if check.required]
    # UNMEASURED: so few were scored that the rule was not even looked at.
    still_open = [check for check in required if check.verdict in ("INCONCLUSIVE", "UNMEASURED")]
    failed = [check for check in required if check.verdict == "FAIL"]
    items = min((check.evaluated for check in required if check.evaluated), default=len(run.asked))
    first = still_open[0] if still_open else None
    return Seen(
        strength=0.0 if not still_open or failed else max(0.5, between(items, 400, FEW)),
        says=f"{len(still_open)} of {len(required)} required rules stayed open at {items} items"
        + (f"; {first.metric}: {first.reason}" if first else ""),
        seen="gate",
        source=run.source("gate"),
        stage="evaluate",
        refuted_by="more items, and the rule fails",
        knobs=_more_items(run) if still_open else (),
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


@probe("eval_blindness")
def ceiling_or_floor(run: Records) -> Seen | str:
    """Gated metrics that are all but 1, or all but 0, for the candidate and for what it is compared with.

    There the two cannot differ, whatever was trained: the gate looks where nothing can be seen.
    """
    other = _another(run)
    if run.report is None or run.decision is None or other is None:
        return "needs a gate, and a second report on the same suites"
    gated = list(dict.fromkeys(check.metric for check in run.decision.checks))
    both = {
        name: (run.report.scores[name].mean, other.scores[name].mean)
        for name in gated
        if name in run.report.scores and name in other.scores
    }
    means = {name: pair for name, pair in both.items() if None not in pair}
    if not means:
        return "no gated metric was measured in both reports"
    stuck = [
        name
        for name, pair in means.items()
        if min(value or 0.0 for value in pair) >= CEILING or max(value or 0.0 for value in pair) <= 1 - CEILING
    ]
    return Seen(
        strength=between(len(stuck) / len(means), 0.5, 1.0),
        says=f"{len(stuck)} of {len(means)} gated metrics are at their ceiling or floor in both reports"
        + (f": {', '.join(stuck)}" if stuck else ""),
        seen="evaluate",
        source=run.source("evaluate"),
        stage="suites",
        refuted_by="harder items on which the two score alike",
        knobs=(knob(run, "suites", "add items that one of the two gets wrong"),) if stuck else (),
    )


@probe("eval_blindness")
def suites_that_do_not_move(run: Records) -> Seen | str:
    """Suites whose every metric stays where it is while the first gated one is shown to move between two checkpoints.

    Such a suite measures something else than the contract. It may be meant to: the reading is weak by itself.
    """
    other = _another(run)
    if run.report is None or run.decision is None or other is None or not run.decision.checks:
        return "needs a gate, and a second report on the same suites"
    first = run.decision.checks[0].metric.partition(".")[0]
    moved: dict[str, bool] = {}
    for name, score in run.report.scores.items():
        suite, there = name.partition(".")[0], other.scores.get(name)
        if there is not None and None not in (score.low, score.high, there.low, there.high):
            apart = (score.low or 0.0) > (there.high or 0.0) or (score.high or 0.0) < (there.low or 0.0)
            moved[suite] = moved.get(suite, False) or apart
    if len(moved) < 2 or not moved.get(first):
        return f"needs two suites, and a checkpoint from which {first} is shown to differ"
    still = [suite for suite, has in moved.items() if not has]
    return Seen(
        strength=0.3 * len(still) / (len(moved) - 1),
        says=f"{first} moved; {', '.join(still) or 'no suite'} did not"
        + (f", of {len(moved)} suites" if still else f": all {len(moved)} do"),
        seen="suites",
        source=run.source("evaluate"),
        stage="suites",
        refuted_by="a checkpoint that is better at what that suite is for, and moves it",
        knobs=(knob(run, "suites", f"look at the items of {still[0]}"),) if still else (),
    )


@probe("eval_blindness")
def sampled_as_served(run: Records) -> Seen | str:
    """Sampled answers drawn at a temperature at which nobody serves a model.

    Above 1 the unlikely is made likelier than it was learned to be: what comes out says little of what was learned.
    """
    temperature = run.config("evaluate").get("sampled_temperature")
    if temperature is None or not any(item.mode == "sampled" for item in run.items):
        return "no sampled answers in the evaluation"
    return Seen(
        strength=between(temperature, 1.2, 2.0),
        says=f"sampled answers were drawn at temperature {temperature:g}; 1 draws what was learned",
        seen="evaluate",
        source=run.source("evaluate"),
        stage="evaluate",
        refuted_by="as many wrong answers at temperature 1",
        knobs=(knob(run, "evaluate", "draw what was learned", "evaluate.sampled_temperature=1.0"),)
        if temperature > 1
        else (),
    )


@probe("eval_blindness")
def judge_position(run: Records) -> Seen | str:
    """Pairs on which a judge changes its mind when the two answers change places.

    A judge that favours a place measures the order (Zheng et al. 2023, arxiv.org/abs/2306.05685, section 3.3).
    """
    verdicts = [item.grades["consistent"] for item in run.items if item.grades.get("consistent") is not None]
    if not verdicts:
        return "no suite is judged in pairs"
    odd = sum(not verdict for verdict in verdicts)
    return Seen(
        strength=between(odd / len(verdicts), 0.05, 0.3),
        says=f"the judge prefers the other answer on {odd} of {len(verdicts)} pairs once their order is turned",
        seen="evaluate",
        source=run.source("evaluate"),
        stage="suites",
        failing=odd,
        refuted_by="a judge that reads one answer at a time and says the same",
        knobs=(knob(run, "suites", "use a judge that scores each answer alone"),) if odd else (),
    )


def _more_items(run: Records) -> tuple[Knob, ...]:
    """All that the suites have, where fewer were asked; else other items."""
    asked = run.config("evaluate").get("items_per_suite")
    have = max(run.manifests["suites"].facts["items"].values(), default=0) if "suites" in run.manifests else 0
    if isinstance(asked, int) and asked < have:
        change = f"score all {have} items of a suite, not {asked}"
        return (knob(run, "evaluate", change, "evaluate.items_per_suite=null", times=have / asked),)
    return (knob(run, "evaluate", "score four times the items", times=4.0),)


def _another(run: Records) -> EvalReport | None:
    """What the candidate was compared with; else the report on the SFT checkpoint, where there is one."""
    for stage in ("evaluate_live", "evaluate_base"):
        if stage in run.folders:
            return EvalReport.load(run.folders[stage])
    return run.report_of("sft") if run.candidate != "sft" else None
