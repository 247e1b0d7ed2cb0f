"""Numbers and metrics in plain words: what a metric means, which way is good, how its values are written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lifecycle.artifacts import Check, Score

NOT_MEASURED = "not measured"

# What a metric says of the model, by the last part of its name; a metric that is not here is shown without a sentence.
MEANINGS = {
    "kl": "KL to the reference over an answer that the model gave, in nats; measured in training",
    "kl_token": "the same, a token of the answer",
    "preferred": "held-out pairs whose chosen answer the model prefers; measured in training",
    "chosen_fall": "log p a token that held-out chosen answers lost against the reference, in nats",
    "greedy_correct": "its most likely answer holds exactly the right value",
    "greedy_stopped": "its most likely answer ends by itself, before it would be cut off",
    "sampled_correct": "an answer drawn as users get it holds exactly the right value",
    "sampled_terse": "a drawn answer is the asked-for JSON and not a word more, right or wrong",
    "sampled_exact": "a drawn answer is right and not a word more",
    "bits_per_byte": "how surprised the model is by text it has never seen; half as many bits, twice as well predicted",
    "greedy_follows": "its most likely answer keeps every instruction of the prompt",
    "greedy_follows_loose": "the same, forgiving an introduction, a closing line or Markdown",
    "greedy_followed_share": "of all instructions of a prompt, how many its most likely answer keeps",
    "sampled_follows": "a drawn answer keeps every instruction of the prompt",
    "accuracy": "it finds the right choice more probable than any other",
    "accuracy_per_byte": "the same, with each choice's log-probability divided by its length",
    "right_probability": "the probability it gives the right choice, given that it is one of them",
    "greedy_win_rate": "a judge prefers its most likely answer to the given one; a tie counts half",
    "sampled_win_rate": "a judge prefers a drawn answer to the given one; a tie counts half",
    "judge_consistent": "the judge says the same when the two answers change places; about the judge, not the model",
    "template_parity": "the chat template renders the conversation as in training, token for token",
    "stops_after_answer": "after a whole answer, ending is the likeliest thing it does",
}
MEANINGS_BY_START = {
    "pass_at_": "the chance that at least one of so many drawn answers passes its checks",
    "greedy_check_": "its most likely answer keeps every instruction of this kind",
}
# What a suite's baselines (chance, the commonest answer, an empty one) are scores on.
SAYS_WHAT_IS_RIGHT = ("correct", "exact", "accuracy", "follows", "pass_at")


@dataclass(frozen=True)
class Unit:
    """How values of a metric are written, and differences between two of them."""

    name: str
    show: Callable[[float], str]
    end: Callable[[float], str]
    """Of an interval, beside a value that names the unit."""
    tick: Callable[[float], str]
    difference: Callable[[float], str]
    difference_tick: Callable[[float], str]
    difference_name: str


def _signed(value: float, digits: int) -> str:
    """With a sign, a proper minus, and no sign on what rounds to zero."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text.lstrip("+−") if float(f"{value:.{digits}f}") == 0 else text


def _short(value: float, signed: str = "") -> str:
    """For ticks: 0.5, 10, −3."""
    return f"{value:{signed if value else ''}g}".replace("-", "−")


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


SHARE = Unit(
    "share of items",
    show=lambda value: percent(value, 1),
    end=lambda value: f"{100 * value:.1f}",
    tick=lambda value: f"{_short(100 * value)}\N{NO-BREAK SPACE}%",
    difference=lambda value: _signed(100 * value, 1),
    difference_tick=lambda value: _short(100 * value, "+"),
    difference_name="points",
)
BITS = Unit(
    "bits per byte",
    show=lambda value: f"{value:.3f}",
    end=lambda value: f"{value:.3f}",
    tick=_short,
    difference=lambda value: _signed(value, 3),
    difference_tick=lambda value: _short(value, "+"),
    difference_name="bits per byte",
)
NUMBER = replace(BITS, name="score", difference_name="score")


def unit_of(metric: str, score: Score) -> Unit:
    """Bits, a share, or a bare number: told from the metric's name and the range of its values."""
    if metric.split(".")[0].endswith("bits_per_byte"):
        return BITS
    numbers = [number for number in (score.mean, score.low, score.high) if number is not None]
    return SHARE if score.higher_is_better and all(0 <= number <= 1 for number in numbers) else NUMBER


def meaning(metric: str) -> str:
    """A sentence on what the metric says, or ''."""
    for part in metric.split("."):
        if part in MEANINGS:
            return MEANINGS[part]
        for start, words in MEANINGS_BY_START.items():
            if part.startswith(start):
                return words
    return ""


def parents(metrics: Mapping[str, object]) -> dict[str, str]:
    """For every metric of a slice the metric it is a slice of."""
    found = {}
    for metric in metrics:
        whole = [other for other in metrics if metric.startswith(f"{other}.")]
        if whole:
            found[metric] = min(whole, key=len)
    return found


def baselines_of(metric: str, baselines: Mapping[str, float], *, is_slice: bool) -> dict[str, float]:
    """The named reference numbers a metric can be held against.

    `bigram_bits_per_byte.sea` belongs to `bits_per_byte.sea`; `quiz.chance` to what says of suite `quiz` what is right.
    """
    suite, _, rest = metric.partition(".")
    if suite.endswith("bits_per_byte"):
        return {
            name.removesuffix(f"_{metric}"): value for name, value in baselines.items() if name.endswith(f"_{metric}")
        }
    if is_slice or not any(word in rest for word in SAYS_WHAT_IS_RIGHT):
        return {}
    return {name.partition(".")[2]: value for name, value in baselines.items() if name.startswith(f"{suite}.")}


def rule(asked: Mapping[str, Any], unit: Unit) -> str:
    """A rule of the gate's policy as a sentence."""
    match asked:
        case {"kind": "floor", "at_least": bar}:
            text = f"must be above {unit.show(bar)}"
        case {"kind": "ceiling", "at_most": bar}:
            text = f"must be below {unit.show(bar)}"
        case {"kind": "guard", "margin": margin}:
            text = f"may be worse than live by less than {_width(margin, unit)}"
        case {"kind": "target", "by": by}:
            text = f"must be better than live; {_width(by, unit)} were worked for"
        case _:
            text = ", ".join(f"{name} {value}" for name, value in asked.items() if name != "metric")
    return text + ("" if asked.get("required", True) else " (optional: it cannot hold a release back)")


def _width(value: float, unit: Unit) -> str:
    return f"{unit.difference(value).lstrip('+')} {unit.difference_name}"


def limit(asked: Mapping[str, Any], *, higher_is_better: bool) -> float | None:
    """Where the rule's bar stands: on the score's scale for a floor or ceiling, else on that of differences."""
    match asked:
        case {"kind": "floor", "at_least": bar} | {"kind": "ceiling", "at_most": bar}:
            return float(bar)
        case {"kind": "guard", "margin": margin}:
            return -float(margin) if higher_is_better else float(margin)
        case {"kind": "target"}:
            return 0.0
    return None


def headline(verdict: str | None, checks: Sequence[Check]) -> str:
    """The answer to "may it go live?", in a line. Optional rules cannot hold a release back, and are not counted."""
    needed = [check for check in checks if check.required]
    holds, failed = (sum(check.verdict == name for check in needed) for name in ("PASS", "FAIL"))
    unsettled = len(needed) - holds - failed
    match verdict:
        case "PROMOTE":
            return f"Yes: {_of_all(holds, len(needed), 'is', 'are')} shown to hold"
        case "BLOCK":
            rest = f", {unsettled} not settled" if unsettled else ""
            return f"No: {_of_all(failed, len(needed), 'fails', 'fail')}{rest}"
        case "INCONCLUSIVE":
            return f"Not yet: {_of_all(unsettled, len(needed), 'is', 'are')} not settled by the evidence"
    return "No gate has decided on it"


def _of_all(some: int, of_all: int, one: str, many: str) -> str:
    number = f"all {of_all} rules" if some == of_all and some > 1 else f"{some} of {of_all} rules"
    return f"{number} {one if some == 1 else many}"


def found(check: Check, unit: Unit, *, higher_is_better: bool) -> str:
    """The numbers behind a verdict: `5.2 %, live 95.1 %: −89.9 points [−91.1, −88.6], worse`."""
    if check.candidate is None:
        return NOT_MEASURED
    text, ends = unit.show(check.candidate), ""
    if check.low is not None and check.high is not None:
        show = unit.end if check.difference is None else unit.difference
        ends = f" [{show(check.low)}, {show(check.high)}]"
    if check.live is None or check.difference is None:
        text += ends if check.live is None else f", live {unit.show(check.live)}"
    else:
        width = f"{unit.difference(check.difference)} {unit.difference_name}{ends}"
        text += f", live {unit.show(check.live)}: {width}, {_way(check, higher_is_better=higher_is_better)}"
    return text if check.next_look is None else f"{text}; the next look is at {check.next_look:,} items"


def _way(check: Check, *, higher_is_better: bool) -> str:
    """What the interval of a difference shows: better, worse, or neither."""
    low, high = check.low or 0.0, check.high or 0.0
    if low <= 0 <= high:
        return "no difference shown"
    return "better" if (low > 0) == higher_is_better else "worse"
