"""From item records to metrics: what each suite's kind says they add up to, whole and by slice."""

from collections.abc import Iterable, Mapping, Sequence

from lifecycle.artifacts import Score
from lifecycle.errors import DamagedArtifact
from lifecycle.evaluation.evidence import Evidence, Share
from lifecycle.evaluation.items import Item
from lifecycle.evaluation.kinds import KINDS, drift, next_token
from lifecycle.evaluation.kinds.suite import Measure
from lifecycle.evaluation.quantities import NO_BOUNDS, Mean, Rate


def measured(items: Iterable[Item]) -> dict[str, Evidence]:
    """The evidence behind every metric."""
    return {name: evidence(measure) for name, measure in measures(items).items()}


def measures(items: Iterable[Item]) -> dict[str, Measure]:
    """The values behind every metric: `suite.metric`, then `suite.metric.slice` where the suite has slices.

    An item or a metric that occurs twice is refused: it would count twice, or hide the other.
    """
    by_suite: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        by_suite.setdefault((item.suite, item.kind), []).append(item)
    found: dict[str, Measure] = {}
    for (suite, kind), records in by_suite.items():
        records = _asked_alike(records)
        slices = sorted({record.slice for record in records} - {""})
        parts = {"": records} | {f".{name}": [r for r in records if r.slice == name] for name in slices}
        for part, some in parts.items():
            for metric, measure in _of_kind(kind, some).items():
                if measure.values:
                    name = f"{suite}.{metric}{part}" if metric else f"{suite}{part}"
                    if name in found:
                        raise DamagedArtifact(f"expected one {name!r} in a report, found two. Evaluate again.")
                    found[name] = measure
    return found


def scores(evidence: Mapping[str, Evidence], *, confidence: float) -> dict[str, Score]:
    """Every metric with its two-sided interval."""
    return {name: _score(found, confidence) for name, found in evidence.items()}


def evidence(measure: Measure) -> Evidence:
    """What can be said about these values: which kind of interval fits them."""
    values, clusters = measure.values, measure.clusters
    match measure.family:
        case "share":
            odd = {value for value in values.values() if value not in (None, 0, 1)}
            if odd:
                raise DamagedArtifact(f"expected right or wrong, 1 or 0, found {min(odd)}. Evaluate again.")
            return Share({item: None if value is None else value == 1 for item, value in values.items()}, clusters)
        case "rate":
            bytes_of = measure.weights
            pairs = {item: None if bits is None else (bits, int(bytes_of[item])) for item, bits in values.items()}
            return Rate(pairs, clusters)
        case "mean":
            bounds = NO_BOUNDS if measure.bounds is None else measure.bounds
            return Mean(values, clusters, higher_is_better=measure.higher_is_better, bounds=bounds)


def _asked_alike(records: Sequence[Item]) -> list[Item]:
    """The records, with those of items that are asked in the same words in one cluster: the second one is no news."""
    asking: dict[str, set[str]] = {}
    for record in records:
        asking.setdefault(record.prompt_digest, set()).add(f"{record.slice}/{record.id}")
    return [
        record.model_copy(update={"cluster": f"asked alike {record.prompt_digest}"})
        if len(asking[record.prompt_digest]) > 1 and not record.cluster
        else record
        for record in records
    ]


def _of_kind(kind: str, items: Sequence[Item]) -> dict[str, Measure]:
    if kind == next_token.KIND:
        return next_token.measures(items)
    if kind == drift.KIND:
        return drift.measures(items)
    if kind not in KINDS:
        raise DamagedArtifact(
            f"expected records of a known kind ({', '.join(sorted([*KINDS, drift.KIND, next_token.KIND]))}), found "
            f"{kind!r}. The report is from another version; evaluate again."
        )
    return KINDS[kind].measures(items)


def _score(found: Evidence, confidence: float) -> Score:
    interval = None if found.fault else found.interval((1 - confidence) / 2)
    return Score(
        mean=_rounded(found.value),
        low=_rounded(interval.low) if interval else None,
        high=_rounded(interval.high) if interval else None,
        items=found.items,
        unmeasured=found.unmeasured,
        higher_is_better=found.higher_is_better,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
