"""Whether exactly this checkpoint may go live, with the reasons."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lifecycle import contracts
from lifecycle.artifacts import Check, EvalReport, GateDecision
from lifecycle.evaluation.items import measured, read_items
from lifecycle.evaluation.rules import Ceiling, Floor, Guard, check_rules
from lifecycle.pages.render import decision_page
from lifecycle.sealing import StageConfig

__all__ = ["Ceiling", "Floor", "GateConfig", "Guard", "decide_gate", "verdict"]


class GateConfig(StageConfig):
    """What a checkpoint must have shown to go live. Floors and ceilings always count, guards once something is live."""

    stage: ClassVar[str] = "gate"
    rules: tuple[Annotated[Floor | Ceiling | Guard, Field(discriminator="kind")], ...] = Field(min_length=1)
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="Of the whole decision: of a promotion, and of all claims of harm together."
    )

    @model_validator(mode="after")
    def _rules_decide(self) -> Self:
        names = [(rule.kind, rule.metric) for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError(f"expected one rule of a kind for a metric, found {names}. Remove the looser one.")
        if all(isinstance(rule, Guard) for rule in self.rules):
            raise ValueError("expected a floor or a ceiling, found guards alone: a first release would pass unasked.")
        return self


def decide_gate(
    config: GateConfig, report: EvalReport, live: EvalReport | None = None, *, out_dir: Path
) -> GateDecision:
    """PROMOTE if every rule is shown to hold, BLOCK if one is shown to be broken, else INCONCLUSIVE."""
    # What was sealed, every byte checked, not what we were told.
    report, live = EvalReport.load(report.path), None if live is None else EvalReport.load(live.path)
    if live is not None:
        contracts.comparable(report, live)
    checks = check_rules(
        config.rules,
        measured(read_items(report.path)),
        None if live is None else measured(read_items(live.path)),
        alpha=1 - config.confidence,
        same_model=live is not None and live.checkpoint_digest == report.checkpoint_digest,
    )
    decision = GateDecision(
        path=out_dir,
        verdict=verdict(checks),
        checkpoint_digest=report.checkpoint_digest,
        report_digest=report.digest,
        against=None if live is None else live.checkpoint_digest,
        checks=checks,
    )
    (out_dir / "decision.md").write_text(decision_page(decision), encoding="utf-8")
    return decision.seal(config, report, *([] if live is None else [live]))


def verdict(checks: Sequence[Check]) -> Literal["PROMOTE", "BLOCK", "INCONCLUSIVE"]:
    """Nothing checked, nothing promoted."""
    verdicts = {check.verdict for check in checks}
    if "FAIL" in verdicts:
        return "BLOCK"
    return "PROMOTE" if verdicts == {"PASS"} else "INCONCLUSIVE"
