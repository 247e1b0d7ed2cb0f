"""What a probe brings back: how strongly a run shows one of the six problems, and what should be done about it.

| problem | the model ... | mended by |
|---|---|---|
| knowledge | never read enough of what it is asked about | corpus, tokenizer, more or better pretraining |
| behaviour | knows it, but was not shown (enough of) how to answer | demonstrations, SFT |
| protocol | was taught one way of speaking and is spoken to in another | template, mask, stop token |
| preference | answered well, until it learned which answer wins | comparisons, the strength of preference training |
| runtime | is not the one that was asked for: out of memory, hung, skipped, cut | memory, batch, rates |
| eval_blindness | may be fine: the evaluation cannot tell | items, suites, limits on answers |
"""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Problem = Literal["knowledge", "behaviour", "protocol", "preference", "runtime", "eval_blindness"]
PROBLEMS: tuple[Problem, ...] = get_args(Problem)
Strength = Annotated[float, Field(ge=0, le=1)]


class Knob(BaseModel):
    """One thing to change. Knobs are shown cheapest first: the famous one is rarely the first to try."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    change: str = Field(description="What to do, as a setting where there is one.")
    settings: tuple[str, ...] = Field((), description="The same as --set arguments, where it can be done for the user.")
    stage: str = Field(description="The first stage that is made again; all below it follow.")
    times: float = Field(1.0, gt=0, description="How much longer that stage takes than in this run.")
    seconds: float | None = Field(None, description="Of all stages made again, from this run's own; None: not known.")


class Reading(BaseModel):
    """What a probe measured. `strength` 0 is nothing to see; 1 is plain even without any other evidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    probe: str
    problem: Problem
    strength: Strength
    says: str = Field(description="The finding in a sentence, with its numbers.")
    seen: str = Field(description="The stage it shows at. What was seen earlier in the chain can be its cause.")
    source: str = Field(description="Where the numbers come from: an artifact, and the step in it where there is one.")
    stage: str = Field(description="The stage to change, if this is what is wrong.")
    refuted_by: str = Field(description="What would show that this is not it.")
    failing: int | None = Field(None, description="Items of the evaluation this accounts for, of those that failed.")
    examples: tuple[str, ...] = ()
    knobs: tuple[Knob, ...] = ()


class Unmeasured(BaseModel):
    """A probe that could not look. It counts for nothing, and never as fine."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    probe: str
    problem: Problem
    why: str


Answer = Reading | Unmeasured


def between(value: float, fine: float, plain: float) -> float:
    """0 at `fine` and 1 at `plain`, in proportion between the two; `plain` may lie on either side of `fine`."""
    return max(0.0, min(1.0, (value - fine) / (plain - fine)))
