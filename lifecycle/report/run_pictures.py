"""The pictures of a run: the chain it was, and what its stages measured while they trained."""

from collections.abc import Mapping, Sequence
from functools import partial

from markupsafe import Markup

from lifecycle.diagnosis.records import Records
from lifecycle.report import figures
from lifecycle.report.figures import Axis, Mark, Row, Series
from lifecycle.report.key_numbers import duration, key_number
from lifecycle.report.picture import Picture, drawn
from lifecycle.report.svg import TEXT, Canvas, Tone, fit
from lifecycle.runs import StageRecord

LANES = {"suites": 0, "demonstrations": 2, "comparisons": 2, "reward": 2, "evaluate_live": 2, "evaluate_base": 2}
LANE, LEFT, LINE = 17.0, 8.0, 40.0  # between two lanes, before the first, and from one stage to the next
TRAINED = ("pretrain", "sft", "reward", "preference")
# What of a stage's metrics is drawn, with the axis it is drawn over; two names stand on one picture.
CURVES: Mapping[str, Sequence[tuple[tuple[str, ...], str]]] = {
    "pretrain": ((("loss", "validation_loss"), "nats a token"), (("grad_norm",), "gradient norm")),
    "sft": ((("loss", "dev/loss"), "nats a supervised token"), (("grad_norm",), "gradient norm")),
    "reward": ((("loss", "heldout/loss"), "nats a pair"), (("accuracy", "heldout/accuracy"), "pairs ranked right")),
    "preference": (
        (("loss", "heldout/loss"), "loss"),
        (("reward_accuracy", "heldout/reward_accuracy"), "pairs ranked right"),
        (("reward_margin", "heldout/reward_margin"), "reward margin"),
        (("logprob_chosen", "logprob_rejected"), "ln p of an answer"),
        (("kl", "drift/kl"), "KL to the reference, nats"),
    ),
}
MOST_POINTS = 400  # of a curve: as many as there are pixels for


def chain(run: Records, against: Records | None = None) -> Picture:
    """Every stage with what went into it, what came out, and how long it took; a ring was reused."""
    stages = run.stages
    other = {} if against is None else {stage.stage: stage for stage in against.stages}
    caption = "A line leads from each artifact to what was made from it. A disc was made in this run, a ring was reused"
    caption += ", a diamond is another artifact than the other run's." if against else "."
    changed = {stage.stage for stage in stages if stage.stage in other and other[stage.stage].digest != stage.digest}
    made = {stage: manifest.seconds for stage, manifest in run.manifests.items()}
    numbers = [key_number(stage.kind, run.manifests[stage.stage].facts) for stage in stages]
    draw = partial(_chain, stages, _edges(run, stages), numbers, made, changed)
    said = ", ".join(f"{stage.stage} {duration(made[stage.stage])}" for stage in stages)
    return drawn(draw, caption, title="The chain", says=f"{caption} In order: {said}.")


def curves(run: Records, against: Records | None = None) -> dict[str, list[Picture]]:
    """What each stage measured in training, by stage; the other run's curve beside it where there is one."""
    found = {}
    for stage in TRAINED:
        mine, theirs = run.manifests.get(stage), None if against is None else against.manifests.get(stage)
        other = against if theirs and (mine is None or mine.digest != theirs.digest) else None  # one curve is not two
        pictures = [
            picture
            for names, label in CURVES[stage]
            if (picture := _curve(stage, names, label, run, other)) is not None
        ]
        if pictures:
            found[stage] = pictures
    return found


def without_kl(run: Records) -> str | None:
    """Why there is no curve of the distance to the reference, where preferences were learned without watching it."""
    if "preference" not in run.manifests or run.curve("preference", "drift/kl"):
        return None
    return (
        "KL to the reference was not measured in training. Set preference.drift to watch it, and to end a run that "
        "moves too far; ln p of winning and losing answers shows the same from the pairs alone."
    )


def bits(run: Records) -> Picture | None:
    """Bits per byte of the base on held-out text of each source, beside what counting pairs of tokens gives."""
    last = {
        name: value for row in run.validations("pretrain") for name, value in row.items() if "bits_per_byte/" in name
    }
    if not last:
        return None
    baselines = {} if run.report is None else run.report.baselines
    rows = []
    for name, value in last.items():
        source = name.split("/")[1]
        bigram = baselines.get(f"bigram_bits_per_byte.{source}")
        marks = [Mark(value, says=f"{value:.2f} base")]
        marks += [] if bigram is None else [Mark(bigram, tone="other", says=f"{bigram:.2f} bigram")]
        rows.append(Row(source, marks, f"{value:.2f}" + (f" / {bigram:.2f}" if bigram else "")))
    legend: figures.Legend = {"base": "main", "interpolated bigram": "other"}
    draw = partial(figures.intervals, rows, axis=Axis("bits per byte", "{:.1f}".format, 0.0), legend=legend)
    return drawn(
        draw,
        "Lower is better. A model that reads no further than the last token reaches the ring.",
        title="Held-out text",
    )


def _curve(stage: str, names: Sequence[str], label: str, run: Records, against: Records | None) -> Picture | None:
    tones: Sequence[Tone] = ("main", "open")
    series = []
    for name, tone in zip(names, tones, strict=False):
        values = run.curve(stage, name)
        if len(values) > 1 or (values and name != names[0]):
            series.append(Series(_named(name), _points(values), tone, points_only=len(values) < 3))
    if against is not None and (values := against.curve(stage, names[0])):
        series.append(Series(f"{_named(names[0])}, {against.run.name}", _points(values), "other"))
    if not any(len(one.marks) > 1 for one in series):
        return None
    last = run.curve(stage, names[0])[-1:] or run.curve(stage, names[1])[-1:]
    caption = f"{_named(names[0])} {last[0][1]:.3g} at step {last[0][0]:,}." if last else ""
    draw = partial(figures.lines, series, x=Axis("step", "{:,.0f}".format), y=Axis(label, "{:.3g}".format), height=240)
    return drawn(draw, caption, title=f"{stage}: {label}")


def _points(values: Sequence[tuple[int, float]]) -> list[tuple[float, Mark]]:
    thinned = values[:: -(-len(values) // MOST_POINTS)] or values
    return [(float(step), Mark(value, says=f"{value:.4g} at step {step:,}")) for step, value in thinned]


def _named(name: str) -> str:
    known = {
        "loss": "training",
        "dev/loss": "held out",
        "validation_loss": "held out",
        "heldout/loss": "held out",
        "logprob_chosen": "answers that win",
        "logprob_rejected": "answers that lose",
    }
    return known.get(name, name.replace("heldout/", "held out ").replace("_", " "))


def _edges(run: Records, stages: Sequence[StageRecord]) -> list[tuple[int, int]]:
    """Rows of an artifact and of what was made from it."""
    rows = {stage.digest: number for number, stage in enumerate(stages)}
    return [
        (rows[entry.digest], number)
        for number, stage in enumerate(stages)
        for entry in run.manifests[stage.stage].inputs
        if entry.digest in rows
    ]


def _chain(
    stages: Sequence[StageRecord],
    edges: Sequence[tuple[int, int]],
    numbers: Sequence[str],
    seconds: Mapping[str, float],
    changed: set[str],
    *,
    title: str,
    says: str,
    width: float,
) -> Markup:
    canvas = Canvas(width)
    names = [stage.stage for stage in stages]
    at = [(LEFT + LANE * LANES.get(name, 1), 14 + LINE * row) for row, name in enumerate(names)]
    for start, end in edges:
        canvas.path(_bent(at[start], at[end]), tone="rule", stroke_width=1.6)
    left = LEFT + 3 * LANE
    for stage, number, (x, y) in zip(stages, numbers, at, strict=True):
        tone: Tone = "bad" if stage.stage in changed else "other" if stage.reused else "main"
        canvas.mark(
            x, y, tone, says=f"{stage.stage}: {'reused' if stage.reused else 'made'}, {stage.digest[:12]}", size=5.5
        )
        took = duration(seconds[stage.stage]) + (", reused" if stage.reused else "")
        canvas.text(left, y + 4, stage.stage, font_weight=600)
        canvas.text(width, y + 4, took, tone="quiet", text_anchor="end", font_variant_numeric="tabular-nums")
        canvas.text(left, y + 19, fit(number, width - left, TEXT - 1), tone="quiet", size=TEXT - 1)
    return canvas.svg(14 + LINE * len(stages), title=title, says=says)


def _bent(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Down the lane of the one, and over to the other's in the last line before it."""
    (x1, y1), (x2, y2) = start, end
    turn = min(y2 - 8, max(y1 + 8, y2 - LINE * 0.7))
    return [(x1, y1), (x1, turn), (x2, min(y2, turn + abs(x2 - x1))), (x2, y2)]
