"""Rules a release must keep: what each asks of a value, and how far it may be from certain.

Every rule has two points. Beyond its *bar* it may pass: a guard's bar is `margin` below the live model. From `width`
above the bar on it must not be held against a model: a guard's is the live model itself. In between either verdict is
right, and that is what makes a plan with few open ends possible.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    metric: str
    required: bool = Field(True, description="Whether it can hold a release back; one that is not is only reported.")
    items: int | None = Field(
        None, ge=2, description="Planned number of items: other numbers decide nothing. None: all of one report, once."
    )


class Floor(_Rule):
    """A score, higher is better, must be shown to lie above `at_least`."""

    kind: Literal["floor"] = "floor"
    at_least: float = Field(allow_inf_nan=False)
    slack: float = Field(0.0, ge=0, allow_inf_nan=False, description="It fails where shown below at_least + slack.")

    @property
    def width(self) -> float:
        return self.slack

    @property
    def asks(self) -> str:
        return f"more than {self.at_least:g} is asked"

    def bar(self, *, higher_is_better: bool) -> float:
        return self.at_least


class Ceiling(_Rule):
    """A score, lower is better, must be shown to lie below `at_most`."""

    kind: Literal["ceiling"] = "ceiling"
    at_most: float = Field(allow_inf_nan=False)
    slack: float = Field(0.0, ge=0, allow_inf_nan=False, description="It fails where shown above at_most - slack.")

    @property
    def width(self) -> float:
        return self.slack

    @property
    def asks(self) -> str:
        return f"less than {self.at_most:g} is asked"

    def bar(self, *, higher_is_better: bool) -> float:
        return self.at_most


class Guard(_Rule):
    """A score must be shown to be worse than the live model's by less than `margin`. Waits while nothing is live.

    It fails where that is not shown, and the candidate is shown to be worse than the live model.
    """

    kind: Literal["guard"] = "guard"
    margin: float = Field(gt=0, allow_inf_nan=False, description="In the metric's own unit.")

    @property
    def width(self) -> float:
        return self.margin

    @property
    def asks(self) -> str:
        return f"worse by less than {self.margin:g} is asked"

    def bar(self, *, higher_is_better: bool) -> float:
        """Of the difference, candidate minus live."""
        return -self.margin if higher_is_better else self.margin


class Target(_Rule):
    """A score must be shown to be better than the live model's. Waits while nothing is live.

    It fails where that is not shown, and the candidate is shown to be better by less than `by`.
    """

    kind: Literal["target"] = "target"
    by: float = Field(gt=0, allow_inf_nan=False, description="The improvement that was worked for, in its own unit.")

    @property
    def width(self) -> float:
        return self.by

    @property
    def asks(self) -> str:
        return "better is asked"

    def bar(self, *, higher_is_better: bool) -> float:
        """Of the difference, candidate minus live."""
        return 0.0


Rule = Floor | Ceiling | Guard | Target
AnyRule = Annotated[Rule, Field(discriminator="kind")]


def compares(rule: Rule) -> bool:
    """Whether it asks for a live model to compare with."""
    return isinstance(rule, Guard | Target)
