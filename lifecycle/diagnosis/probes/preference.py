"""Preference: the model answered well until it learned which of two answers wins."""

import math
from itertools import islice

from lifecycle.artifacts import EvalReport
from lifecycle.data.jsonl import load_rows
from lifecycle.diagnosis.probes.behaviour import agrees, opening
from lifecycle.diagnosis.probes.probe import Seen, knob, probe
from lifecycle.diagnosis.readings import Knob, between
from lifecycle.diagnosis.records import Asked, Records

STAGE = "preference"
FEW = 30  # answers of a bucket, below which nothing is said about it
LENGTHENED = 0.1
SHOWN = 400  # demonstrations, and pairs, whose openings are compared
NONE = "the run learned from no comparisons"
Z = 1.96


@probe("preference")
def before_and_after(run: Records) -> Seen | str:
    """The same items answered by the SFT checkpoint and by the one that learned preferences: what was lost between.

    The most telling probe there is, and it needs a report on the SFT checkpoint: `diagnose --measure` makes one. Right
    answers may stay right in a manner that nobody asked for: every gated score counts, where its interval fell whole.
    """
    if STAGE not in run.manifests:
        return NONE
    before = run.report_of("sft")
    if before is None or run.report is None:
        return "the SFT checkpoint was not evaluated on these items: `diagnose --measure` does it"
    old = {each.item.key: each for each in run.asked_in(before) if each.item.score is not None}
    new = {each.item.key: each for each in run.asked if each.item.key in old}
    if not new:
        return "the two reports share no measured greedy answer"
    # What stopped being measurable, because it no longer ends, is lost to a user too.
    lost = [key for key, each in new.items() if old[key].item.score and not each.item.score]
    won = [key for key, each in new.items() if not old[key].item.score and each.item.score]
    share = (len(lost) - len(won)) / len(new)
    spread = Z * math.sqrt(max(1, len(lost) + len(won))) / len(new)
    metric, fell = _fell_most(run, before, run.report)
    return Seen(
        strength=between(max(share - spread, fell), 0.01, 0.08),  # what is lost for certain
        says=(f"{metric} fell by {fell:.1%} or more; " if fell > 0 else "")
        + f"of {len(new)} items {len(lost)} were right after SFT and no longer are, {len(won)} the other way round: "
        f"{-share:+.1%} ± {spread:.1%}",
        seen=STAGE,
        source=f"{run.source('sft')} and {run.source(STAGE)}",
        stage=STAGE,
        failing=round(len(lost) / len(new) * sum(each.item.score is not None for each in run.asked)),
        examples=tuple(_changed(old[key], new[key]) for key in lost[:3]),
        refuted_by="an SFT checkpoint that fails the same items",
        knobs=weaker(run),
    )


@probe("preference")
def reward_margin(run: Records) -> Seen | str:
    """Reward accuracy, margin and what happened to the answers that win.

    Reward = beta * (log-prob now - log-prob of the reference), so margin / beta is how many nats the two answers were
    driven apart. Accuracy 1.0 beside a falling log-prob of the chosen answers is likelihood displacement (Razin et al.
    2024, arxiv.org/abs/2410.08847): the pair is won by making both unlikely. The shipped recipe ends at 5 nats.
    A margin that is wide while winning answers became no less likely harms nobody by itself: it weighs a third.
    """
    if STAGE not in run.manifests:
        return NONE
    margin, chosen = (run.curve(STAGE, f"heldout/{name}") for name in ("reward_margin", "reward_chosen"))
    beta = run.config(STAGE).get("beta")
    if not margin or not chosen or not beta:
        return "no reward was measured on held-out pairs"
    apart, moved = margin[-1][1] / beta, chosen[-1][1] / beta
    accuracy = run.curve(STAGE, "heldout/reward_accuracy")
    return Seen(
        strength=max(between(apart, 20, 60) * (1.0 if moved < 0 else 0.3), between(moved, -1.0, -5.0)),
        says=f"winning and losing answers lie {apart:.0f} nats further apart than in the reference; the winning ones "
        f"became {'less' if moved < 0 else 'more'} likely by {abs(moved):.1f} nats; "
        f"reward accuracy {accuracy[-1][1]:.2f}"
        if accuracy
        else "",
        seen=STAGE,
        source=f"{run.source(STAGE)}, step {margin[-1][0]}",
        stage=STAGE,
        refuted_by="an SFT checkpoint that answers no better",
        knobs=weaker(run),
    )


@probe("preference")
def learned_ranking(run: Records) -> Seen | str:
    """Held-out pairs ranked right. At one half the labels say nothing that can be learned, below it they contradict."""
    accuracy = run.curve(STAGE, "heldout/reward_accuracy")
    if STAGE not in run.manifests or not accuracy:
        return NONE if STAGE not in run.manifests else "no accuracy was measured on held-out pairs"
    pairs = run.manifests["comparisons"].facts["heldout_pairs"] if "comparisons" in run.manifests else 0
    value = accuracy[-1][1]
    spread = Z * math.sqrt(0.25 / pairs) if pairs else 0.5
    return Seen(
        strength=between(value - spread, 0.75, 0.5),
        says=f"{value:.1%} ± {spread:.1%} of {pairs} held-out pairs are ranked as they were labelled",
        seen=STAGE,
        source=f"{run.source(STAGE)}, step {accuracy[-1][0]}",
        stage="comparisons",
        refuted_by="two people who agree with the labels",
        knobs=(knob(run, "comparisons", "look at 20 pairs: `python -m lifecycle desk` measures agreement"),),
    )


@probe("preference")
def length_alone(run: Records) -> Seen | str:
    """Whether length predicts which answer wins, and whether the answers' length then changed.

    Length is the best-known shortcut of preference data (Singhal et al. 2023, arxiv.org/abs/2310.03716).
    """
    if "comparisons" not in run.manifests:
        return NONE
    predicts = run.manifests["comparisons"].facts["length_alone_predicts"]
    before = run.report_of("sft")
    if before is None or run.report is None:
        return "the SFT checkpoint was not evaluated, so no change of length is known: `diagnose --measure` does it"
    old, new = _mean_tokens(run, before), _mean_tokens(run, run.report)
    ratio = new / old if old else 1.0
    biased, changed = between(abs(predicts - 0.5), 0.3, 0.5), between(abs(math.log(max(ratio, 1e-9))), 0.7, 1.6)
    return Seen(
        strength=min(biased, changed),
        says=f"length alone predicts {max(predicts, 1 - predicts):.0%} of the labels; sampled answers have {ratio:.2f} "
        "times the tokens they had after SFT",
        seen=STAGE,
        source=run.source("comparisons"),
        stage="comparisons",
        refuted_by="pairs of equal length that teach the same",
        knobs=(knob(run, "comparisons", "add pairs in which the longer answer wins as often as the shorter"),),
    )


@probe("preference")
def labels_and_verifier(run: Records) -> Seen | str:
    """Pairs whose answers can be checked against the record in their prompt, and of which the wrong one is labelled
    to win.

    A reward that disagrees with what can be verified teaches what it likes, not what is so (Gao et al. 2022, "Scaling
    laws for reward model overoptimization", arxiv.org/abs/2210.10760).
    """
    if "comparisons" not in run.folders:
        return NONE
    checked = wrong = 0
    examples: list[str] = []
    for row in load_rows(run.folders["comparisons"] / "train.jsonl"):
        chosen, rejected = (agrees({"messages": [*row["prompt"], *row[side]]}) for side in ("chosen", "rejected"))
        if chosen is None or rejected is None:
            continue
        checked += 1
        if rejected and not chosen:
            wrong += 1
            examples.append(f"{row['id']}: wins {row['chosen'][-1]['content']}, loses {row['rejected'][-1]['content']}")
    if not checked:
        return "no pair carries a record that both answers could be checked against"
    return Seen(
        strength=between(wrong / checked, 0.02, 0.2),
        says=f"in {wrong} of {checked} pairs that can be checked the answer that is wrong is labelled to win",
        seen="comparisons",
        source=run.source("comparisons"),
        stage="comparisons",
        examples=tuple(examples[:3]),
        refuted_by="these pairs removed, and nothing changes",
        knobs=(knob(run, "comparisons", "remove the pairs in which a wrong answer wins"),) if wrong else (),
    )


@probe("preference")
def winners_as_demonstrated(run: Records) -> Seen | str:
    """Answers that win and open as no demonstration does, while those that lose open as demonstrated.

    Preferences then unteach the manner that SFT taught: both are learned as asked, and the suite asks for one.
    """
    if not {"comparisons", "demonstrations"} <= set(run.folders):
        return "needs demonstrations and comparisons made here"
    rows = islice(load_rows(run.folders["demonstrations"] / "train.jsonl"), SHOWN)
    known = {opening(row["messages"]) for row in rows}
    pairs = list(islice(load_rows(run.folders["comparisons"] / "train.jsonl"), SHOWN))
    odd = [row for row in pairs if opening(row["chosen"]) not in known and opening(row["rejected"]) in known]
    return Seen(
        strength=between(len(odd) / max(1, len(pairs)), 0.2, 0.7),
        says=f"in {len(odd)} of {len(pairs)} pairs the winner opens as no demonstration does, and the loser as they do",
        seen="comparisons",
        source=run.source("comparisons"),
        stage="comparisons",
        examples=tuple(f"{row['id']}: wins {row['chosen'][-1]['content'][:100]}" for row in odd[:3]),
        refuted_by="a suite that asks for the manner that wins",
        knobs=(knob(run, "comparisons", "let answers win in the manner that was demonstrated"),) if odd else (),
    )


@probe("preference")
def won_by_length(run: Records) -> Seen | str:
    """Items won and lost since SFT, by whether their sampled answer became shorter, stayed or became longer.

    Losses among answers of another length, and none among those that kept theirs, say that length was learned and not
    quality (Singhal et al. 2023, arxiv.org/abs/2310.03716, section 3: within buckets of length, rewards hardly differ).
    """
    if STAGE not in run.manifests:
        return NONE
    before = run.report_of("sft")
    if before is None or run.report is None:
        return "the SFT checkpoint was not evaluated on these items: `diagnose --measure` does it"
    old = {item.key: item for item in run.items_of(before) if item.mode == "sampled" and item.tokens}
    pairs = [(old[item.key], item) for item in run.items if item.key in old and item.tokens]
    buckets: dict[str, list[float]] = {"shorter": [], "as long": [], "longer": []}
    for was, now in pairs:
        if was.score is not None:
            ratio = now.tokens / was.tokens
            name = "shorter" if ratio < 1 - LENGTHENED else "longer" if ratio > 1 + LENGTHENED else "as long"
            buckets[name].append((now.score or 0.0) - was.score)
    rates = {name: sum(moved) / len(moved) for name, moved in buckets.items() if len(moved) >= FEW}
    if not {"shorter", "longer"} & set(rates):
        return f"fewer than {FEW} sampled answers changed their length since SFT"
    changed = {name: rate for name, rate in rates.items() if name != "as long"}
    worst = min(changed, key=changed.__getitem__)
    kept = rates.get("as long", 0.0)
    return Seen(
        strength=between(kept - changed[worst], 0.1, 0.5) if changed[worst] < 0 else 0.0,
        says="won minus lost since SFT: "
        + ", ".join(f"{rate:+.0%} of {len(buckets[name])} {name}" for name, rate in rates.items()),
        seen=STAGE,
        source=f"{run.source('sft')} and {run.source(STAGE)}",
        stage="comparisons",
        refuted_by="as many losses among answers that kept their length",
        knobs=(knob(run, "comparisons", "add pairs in which length does not tell the winner"),),
    )


def weaker(run: Records) -> tuple[Knob, ...]:
    """The cheapest thing about preferences: learn them less."""
    config = run.config(STAGE)
    rate = config.get("learning_rate")
    if rate is None:
        return ()
    slower = knob(run, STAGE, "a quarter of the learning rate", f"preference.learning_rate={rate / 4:g}")
    if config.get("chosen_nll_weight", 0) >= 1:
        return (slower,)
    # First: with it even a rate 13 times too high forgets nothing (docs/design.md).
    return (knob(run, STAGE, "keep the winning answers likely", "preference.chosen_nll_weight=1.0"), slower)


def _fell_most(run: Records, before: EvalReport, after: EvalReport) -> tuple[str, float]:
    """The gated metric that fell most for certain: from the low end of one interval to the high end of the other."""
    fell = {"": 0.0}
    for name in {check.metric for check in run.decision.checks} if run.decision else ():
        if name not in before.scores or name not in after.scores:
            continue
        old, new = before.scores[name], after.scores[name]
        up = new.higher_is_better
        ends = (old.low, new.high) if up else (new.low, old.high)
        if ends[0] is not None and ends[1] is not None:
            fell[name] = ends[0] - ends[1]
    worst = max(fell, key=fell.__getitem__)
    return worst, fell[worst]


def _changed(old: Asked, new: Asked) -> str:
    return f"{new.item.id}: was {(old.item.answer or '')[:60]}, is {(new.item.answer or '')[:60]}"


def _mean_tokens(run: Records, report: EvalReport) -> float:
    tokens = [item.tokens for item in run.items_of(report) if item.mode == "sampled"]
    return sum(tokens) / len(tokens) if tokens else 0.0
