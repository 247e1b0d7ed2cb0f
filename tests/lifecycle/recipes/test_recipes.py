"""Settings change exactly one value, keep every check, and say what would have been right."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from lifecycle.errors import ConfigError
from lifecycle.recipes import override, raw_files


class Optimizer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = "toy"
    optimizer: Optimizer = Optimizer()
    sources: dict[str, Path] = {"web": Path("web.jsonl"), "books": Path("books.jsonl")}
    limit: int | None = 10


@pytest.mark.parametrize(
    ("setting", "read", "value"),
    [
        ("name=other", lambda r: r.name, "other"),
        ("optimizer.learning_rate=3e-4", lambda r: r.optimizer.learning_rate, 3e-4),
        ("optimizer.betas.1=0.95", lambda r: r.optimizer.betas, (0.9, 0.95)),
        ("limit=null", lambda r: r.limit, None),
        ("sources.web=other.jsonl", lambda r: r.sources["web"], Path("other.jsonl")),
        ('optimizer={"learning_rate": 0.5}', lambda r: r.optimizer.learning_rate, 0.5),
    ],
)
def test_a_setting_changes_one_value(setting, read, value):
    before = Recipe()
    after = override(before, setting)
    assert read(after) == value
    assert before == Recipe()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("optimizer.learning_rat=1", "'learning_rat' is not a setting of Optimizer. Did you mean learning_rate?"),
        ("optimiser.learning_rate=1", "Did you mean optimizer? Valid: limit, name, optimizer, sources"),
        ("optimizer.learning_rate=-1", "greater than 0"),
        ("optimizer.learning_rate=fast", "valid number"),
        ("optimizer.betas.2=1", "Valid: 0, 1"),
        ("name.first=a", "expected a setting with keys below it"),
        ("name", "expected --set stage.key=value"),
        ("=1", "expected --set stage.key=value"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_would_be_right(setting, says):
    with pytest.raises(ConfigError) as error:
        override(Recipe(), setting)
    assert says in str(error.value)


def test_every_raw_file_is_named_with_the_key_that_sets_it():
    assert dict(raw_files(Recipe())) == {"sources.web": Path("web.jsonl"), "sources.books": Path("books.jsonl")}
