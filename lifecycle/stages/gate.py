"""Whether exactly this checkpoint may go live, with the reasons."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

from pydantic import Field, model_validator

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, EvalReport, GateDecision
from lifecycle.errors import ContractError
from lifecycle.evaluation.items import read_items
from lifecycle.evaluation.kinds.drift import SUITE as DRIFT
from lifecycle.evaluation.kinds.next_token import BITS
from lifecycle.evaluation.looks import decides_once, suite_of
from lifecycle.evaluation.metrics import measured
from lifecycle.evaluation.rules import AnyRule, Ceiling, Floor, Guard, Target, compares
from lifecycle.evaluation.verdicts import check_rules, verdict
from lifecycle.pages.render import decision_page
from lifecycle.sealing import Artifact, StageConfig, canonical, later_field

__all__ = ["Ceiling", "Floor", "GateConfig", "Guard", "Target", "decide_gate", "verdict"]

A = TypeVar("A", bound=Artifact)


class GateConfig(StageConfig):
    """What a checkpoint must have shown to go live. Floors and ceilings always count, guards and targets once something
    is live."""

    stage: ClassVar[str] = "gate"
    revision: ClassVar[int] = 2
    rules: tuple[AnyRule, ...] = Field(min_length=1)
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="Of the whole decision: of a promotion, and of all claims of harm together."
    )
    looks: int = Field(
        1,
        ge=1,
        le=100,
        description="How often it may look on the way to the planned items; from 2 on it asks for more.",
    )
    contaminated_share_at_most: float = later_field(
        0.01,
        ge=0,
        lt=1,
        description="A suite with a larger share of its items in the training text decides nothing. At most so much of "
        "a score can be memory.",
    )
    approval: Literal["none", "required"] = later_field(
        "none",
        description="Whether what passed waits for a person: the run ends awaiting approval, `promote` takes it on.",
    )

    @model_validator(mode="after")
    def _rules_decide(self) -> Self:
        names = [(rule.kind, rule.metric) for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError(f"expected one rule of a kind for a metric, found {names}. Remove the looser one.")
        if not any(rule.required and not compares(rule) for rule in self.rules):
            raise ValueError(
                "expected a required floor or ceiling, found guards alone: a first release would pass unasked."
            )
        if self.looks > 1:
            self._looks_are_planned()
        return self

    def _looks_are_planned(self) -> None:
        """Every rule has a known number of items at every look, or one look at all of them."""
        grown = [rule for rule in self.rules if not decides_once(rule, self.looks)]
        unplanned = sorted({rule.metric for rule in grown if rule.items is None})
        if unplanned:
            raise ValueError(
                f"expected `items`, the planned number, on every rule where looks is {self.looks}, found none on "
                f"{', '.join(unplanned)}. `python -m lifecycle plan gate` proposes them."
            )
        by_suite: dict[str, set[int | None]] = {}
        for rule in grown:
            by_suite.setdefault(suite_of(rule.metric), set()).add(rule.items)
        torn = sorted(suite for suite, items in by_suite.items() if len(items) > 1)
        if torn:
            raise ValueError(
                f"expected one number of planned items a suite, found several for {', '.join(torn)}: its rules are "
                "looked at together. Give them the largest."
            )
        slices = sorted({rule.metric for rule in grown if rule.metric.count(".") > 1})
        if slices:
            raise ValueError(
                f"expected rules on whole suites where looks is {self.looks}, found {', '.join(slices)}: how many "
                "items of a slice a look holds is not planned. Make the slice a suite of its own, or set looks=1."
            )
        documents = sorted({rule.metric for rule in self.rules if rule not in grown and rule.items})
        if documents:
            raise ValueError(
                f"expected no `items` on {', '.join(documents)} where looks is {self.looks}, found one: all validation "
                "documents are scored at the first look, and decide once. Leave it out."
            )


def decide_gate(
    config: GateConfig, report: EvalReport, *before: EvalReport | GateDecision | Checkpoint | None, out_dir: Path
) -> GateDecision:
    """PROMOTE if every required rule is shown to hold, BLOCK if one is shown to be broken, else INCONCLUSIVE.

    `before` is the live model's report, where something is live, and the decision of the look before, where one was.
    Where nothing is live it may be a report on the base that the candidate was made from, and that base.
    """
    # What was sealed, every byte checked, not what we were told.
    report = EvalReport.load(report.path)
    sealed = [type(given).load(given.path) for given in before if given is not None]
    live = _only([given for given in sealed if isinstance(given, EvalReport)])
    earlier = _only([given for given in sealed if isinstance(given, GateDecision)])
    baseline = _only([given for given in sealed if isinstance(given, Checkpoint)])
    if live is not None:
        contracts.comparable(report, live)
    if baseline is not None:
        _reports_on_base(live, baseline)
    against = None if live is None or baseline is not None else live.checkpoint_digest
    if earlier is not None:
        _look_before(earlier, config, report, against, baseline)
    found = measured(read_items(report.path))
    checks = check_rules(
        config.rules,
        found,
        None if live is None else measured(read_items(live.path)),
        alpha=1 - config.confidence,
        looks=config.looks,
        earlier=() if earlier is None else earlier.checks,
        partial=_in_part(report, found),
        spoilt=_contaminated(report, found, config.contaminated_share_at_most),
        same_model=live is not None and live.checkpoint_digest == report.checkpoint_digest,
    )
    decision = GateDecision(
        path=out_dir,
        verdict=verdict(checks),
        checkpoint_digest=report.checkpoint_digest,
        report_digest=report.digest,
        against=against,
        baseline=None if baseline is None else baseline.digest,
        checks=checks,
    )
    (out_dir / "decision.md").write_text(decision_page(decision), encoding="utf-8")
    return decision.seal(config, report, *sealed)


def _only(given: Sequence[A]) -> A | None:
    if len(given) > 1:
        raise ContractError(
            f"expected one live report and one look before at most, found {len(given)} of a kind: which of them is "
            "meant nobody can know. Give one."
        )
    return given[0] if given else None


def _in_part(report: EvalReport, metrics: Collection[str]) -> list[str]:
    """The metrics of which only some items were evaluated."""
    limit = report.manifest.config.get("items_per_suite")
    if not isinstance(limit, dict):
        return [] if limit is None else list(metrics)
    # A limit by name holds for a source of documents too, and so for all documents together.
    cut = {BITS} if {metric.removeprefix(f"{BITS}.") for metric in metrics} & limit.keys() else set()
    return [metric for metric in metrics if suite_of(metric) in limit.keys() | cut]


def _contaminated(report: EvalReport, metrics: Collection[str], most: float) -> dict[str, str]:
    """The metrics whose suite was trained on, with how much of it, or was not looked for in the training text."""
    found: dict[str, str] = {}
    for metric in metrics:
        suite = suite_of(metric)
        looked = report.contamination.get(suite)
        if looked is None and suite not in (BITS, DRIFT):
            found[metric] = f"nobody looked whether items of {suite!r} occur in the training text. Evaluate again"
        elif looked is not None and looked.contaminated > most * looked.items:
            found[metric] = (
                f"{looked.contaminated} of {looked.items} items of {suite!r} occur in the training text, more than "
                f"{most:.1%}: what was trained on measures memory"
            )
    return found


def _reports_on_base(opponent: EvalReport | None, baseline: Checkpoint) -> None:
    """The report compared with is on this base; then no release is meant."""
    contracts.has_role(baseline, "base")
    if opponent is None:
        raise ContractError("expected a report on the base compared with, found none. Evaluate the base first.")
    contracts.report_on(opponent, baseline.digest)


def _look_before(
    earlier: GateDecision, config: GateConfig, report: EvalReport, against: str | None, baseline: Checkpoint | None
) -> None:
    """It decided the same question by the same rules, left it open, and this report goes on from the one it saw."""
    asked = (report.checkpoint_digest, against, None if baseline is None else baseline.digest)
    made_by = earlier.manifest.config, earlier.manifest.revision
    same_rules = made_by == (canonical(config, names=True), config.revision)
    then = (earlier.checkpoint_digest, earlier.against, earlier.baseline)
    if then != asked or not same_rules or earlier.verdict != "INCONCLUSIVE":
        raise ContractError(
            f"expected the look before to be INCONCLUSIVE on checkpoint {asked[0][:12]} by these rules, found "
            f"{earlier.verdict} on {earlier.checkpoint_digest[:12]}. Gate again from the first look."
        )
    if earlier.report_digest not in {entry.digest for entry in report.manifest.inputs}:
        raise ContractError(
            f"expected a report that goes on from {earlier.report_digest[:12]}, which the look before saw, found one "
            "that does not: items drawn again are a second try. Evaluate more items with that report as `earlier`."
        )
