"""Complete configurations: one recipe is one function that returns a `LifecycleConfig`, in a module of the same name.

    load("tiny")                                   a recipe that ships here
    load("my_recipes.py:medical_1b")               a recipe in a file of yours
    load("tiny", ["sft.epochs=2"])                 with settings changed; values are JSON, or else plain text

Everything is checked here, before anything heavy is imported: unknown keys, wrong types, missing raw files.
"""

import difflib
import importlib
import importlib.util
import json
import os
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lifecycle.errors import ConfigError, InputError
from lifecycle.expectations import Expected
from lifecycle.model.families import OfTheBase
from lifecycle.sealing import StageConfig
from lifecycle.stages.base import BaseConfig
from lifecycle.stages.comparisons import ComparisonsConfig
from lifecycle.stages.corpus import CorpusConfig
from lifecycle.stages.demonstrations import DemonstrationsConfig
from lifecycle.stages.evaluate import EvaluateConfig
from lifecycle.stages.gate import GateConfig
from lifecycle.stages.online import OnlineConfig
from lifecycle.stages.preference import PreferenceConfig
from lifecycle.stages.pretrain import PretrainConfig
from lifecycle.stages.release import ReleaseConfig
from lifecycle.stages.reward import RewardConfig
from lifecycle.stages.sft import SftConfig
from lifecycle.stages.shards import ShardsConfig
from lifecycle.stages.suites import SuitesConfig
from lifecycle.stages.tokenizer import AdoptTokenizerConfig, BaseTokenizerConfig, TokenizerConfig


class Pretraining(NamedTuple):
    """The stages from raw text to a model trained on it: all of them, or none."""

    corpus: CorpusConfig
    tokenizer: TokenizerConfig | AdoptTokenizerConfig | BaseTokenizerConfig
    shards: ShardsConfig
    pretrain: PretrainConfig


class Alignment(NamedTuple):
    """The stages that learn from choices: all of them, or none; a reward model only where one is learned from."""

    comparisons: ComparisonsConfig
    reward: RewardConfig | None
    preference: PreferenceConfig | OnlineConfig


class LifecycleConfig(BaseModel):
    """Every setting of a run, one field per stage in the order the stages run. A stage that is None is left out.

    A base is trained from text, adopted, or adopted and trained further; preferences are optional.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="The recipe's name.")
    model_name: str = Field(
        "lifecycle", pattern=r"^[\w.-]+$", description="Name of the model in the registry, and of the experiment."
    )

    suites: SuitesConfig
    base: BaseConfig | None = None
    corpus: CorpusConfig | None = None
    tokenizer: TokenizerConfig | AdoptTokenizerConfig | BaseTokenizerConfig | None = None
    shards: ShardsConfig | None = None
    pretrain: PretrainConfig | None = None
    demonstrations: DemonstrationsConfig
    sft: SftConfig
    comparisons: ComparisonsConfig | None = None
    reward: RewardConfig | None = None
    preference: Annotated[PreferenceConfig | OnlineConfig, Field(discriminator="method")] | None = None
    evaluate: EvaluateConfig
    gate: GateConfig
    release: ReleaseConfig

    typical_seconds: dict[str, float] = Field(
        default_factory=dict, description="Seconds per stage where it was measured: the first guess of the time left."
    )
    expected: tuple[Expected, ...] = Field(
        (), description="What its numbers are while nothing is broken: a canary of this recipe is held to them."
    )

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages this recipe runs, in order."""
        return tuple(name for name in type(self).model_fields if isinstance(getattr(self, name), StageConfig))

    @property
    def pretraining(self) -> Pretraining | None:
        """The stages that train a base on text, where the recipe has them."""
        if self.corpus and self.tokenizer and self.shards and self.pretrain:
            return Pretraining(self.corpus, self.tokenizer, self.shards, self.pretrain)
        return None

    @property
    def alignment(self) -> Alignment | None:
        """The stages that learn from choices, where the recipe has them."""
        if self.comparisons and self.preference:
            return Alignment(self.comparisons, self.reward, self.preference)
        return None

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        for group in (Pretraining._fields, ("comparisons", "preference")):
            missing = [name for name in group if getattr(self, name) is None]
            if 0 < len(missing) < len(group):
                raise ValueError(f"expected {', '.join(group)} together or none, found no {', '.join(missing)}")
        judged = isinstance(self.preference, OnlineConfig) and self.preference.reward_source == "model"
        if judged != (self.reward is not None):
            raise ValueError(
                "expected a reward model exactly where one is learned from (preference.reward_source=model, with "
                f"method ppo, rloo or grpo), found {'none' if judged else 'one'}"
            )
        if isinstance(self.preference, OnlineConfig) and self.preference.pretraining_weight and not self.pretraining:
            raise ValueError("preference.pretraining_weight needs the text of stages that pretrain, found none of them")
        if self.base is None and self.pretraining is None:
            raise ValueError("expected a base: stages that train one (corpus to pretrain), or `base`, found neither")
        if self.pretraining is not None:
            own = isinstance(self.pretraining.pretrain.model, OfTheBase)
            kept = isinstance(self.pretraining.tokenizer, BaseTokenizerConfig)
            if (own, kept) != (self.base is not None,) * 2:
                raise ValueError(
                    "expected model and tokenizer of the base where pretraining goes on from one (pretrain.model="
                    "OfTheBase(), tokenizer=BaseTokenizerConfig()), and only there; found "
                    f"{'a' if self.base else 'no'} base, model {'of it' if own else 'of its own'}, tokenizer "
                    f"{'of it' if kept else 'of its own'}"
                )
        return self


def load(recipe: str, settings: Sequence[str] = ()) -> LifecycleConfig:
    """The recipe with `settings` applied, every raw file it names present."""
    config = _build(recipe)
    for setting in settings:
        config = override(config, setting)
    for key, path in raw_files(config):
        if not path.exists() or not os.access(path, os.R_OK):
            raise InputError(
                f"expected a readable file or folder for {key}, found nothing at {path}. Check --set {key}=..."
            )
    return config


def recipe_names() -> list[str]:
    """The recipes that ship here."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def override(config: LifecycleConfig, setting: str) -> LifecycleConfig:
    """`config` with one `stage.key=value` changed, and validated again."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected --set stage.key=value, found {setting!r}. Example: --set sft.epochs=2")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    return _replace(config, key.strip().split("."), value, key.strip())  # type: ignore[no-any-return]


def raw_files(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """Every raw file a configuration names, with the key that names it."""
    for name in type(config).model_fields:
        yield from _paths(getattr(config, name), f"{prefix}{name}")


def _paths(value: Any, key: str) -> Iterator[tuple[str, Path]]:
    match value:
        case Path():
            yield key, value
        case BaseModel():
            yield from raw_files(value, f"{key}.")
        case dict():
            for name, item in value.items():
                yield from _paths(item, f"{key}.{name}")
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _paths(item, f"{key}.{index}")


def _replace(value: Any, path: list[str], new: Any, whole: str) -> Any:
    """`value` with the item at `path` replaced, rebuilt by its own validators on the way up."""
    if not path:
        return new
    name, rest = path[0], path[1:]
    match value:
        case BaseModel():
            fields = type(value).model_fields
            if name not in fields:
                raise ConfigError(_unknown(whole, name, list(fields), value))
            values = {field: getattr(value, field) for field in fields}
            values[name] = _replace(values[name], rest, new, whole)
            try:
                return type(value).model_validate(values)
            except ValidationError as error:
                raise ConfigError(_refused(whole, new, error)) from error
        case dict():
            if rest and name not in value:
                raise ConfigError(_unknown(whole, name, list(map(str, value)), value))
            return {**value, name: _replace(value.get(name), rest, new, whole)}
        case list() | tuple():
            if not name.isdecimal() or int(name) >= len(value):
                raise ConfigError(_unknown(whole, name, [str(i) for i in range(len(value))], value))
            changed = [_replace(v, rest, new, whole) if i == int(name) else v for i, v in enumerate(value)]
            return type(value)(changed)
    if value is None and len(path) == whole.count("."):
        raise ConfigError(f"--set {whole}: this recipe leaves the stage out. Take one that has it, or write your own.")
    raise ConfigError(
        f"{whole}: expected a setting with keys below it, found the value {value!r}. Remove .{'.'.join(path)}."
    )


def _unknown(whole: str, name: str, valid: list[str], owner: Any) -> str:
    close = difflib.get_close_matches(name, valid, n=3, cutoff=0.6)
    guess = f" Did you mean {' or '.join(close)}?" if close else ""
    where = owner.stage if isinstance(owner, StageConfig) else type(owner).__name__
    return f"--set {whole}: {name!r} is not a setting of {where}.{guess} Valid: {', '.join(sorted(valid))}."


def _refused(whole: str, new: Any, error: ValidationError) -> str:
    reasons = "; ".join(item["msg"] for item in error.errors())
    return f"--set {whole}={new!r} was refused: {reasons}. Give a value that fits."


def _build(recipe: str) -> LifecycleConfig:
    file, colon, function = recipe.rpartition(":")
    if colon:
        module, name = _module_from(Path(file)), function
    elif recipe in recipe_names():
        module, name = importlib.import_module(f"{__name__}.{recipe}"), recipe
    else:
        close = difflib.get_close_matches(recipe, recipe_names(), n=1)
        guess = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"no recipe is called {recipe!r}.{guess} Recipes here: {', '.join(recipe_names())}; "
            "your own: my_recipes.py:name."
        )
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"expected a function {name!r} in {module.__file__}, found none. A recipe is a function.")
    try:
        config = found()
    except ValidationError as error:
        reasons = "; ".join(f"{error.title}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"recipe {recipe!r} does not validate: {reasons}. Mend the recipe.") from error
    if not isinstance(config, LifecycleConfig):
        raise ConfigError(f"expected recipe {recipe!r} to return a LifecycleConfig, found {type(config).__name__}.")
    return config


def _module_from(file: Path) -> ModuleType:
    if not file.is_file():
        raise ConfigError(f"expected a recipe file at {file}, found none. Give my_recipes.py:name.")
    spec = importlib.util.spec_from_file_location(f"recipe_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"expected a Python file, found {file}. A recipe file ends in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{file} cannot be imported: {type(error).__name__}: {error}. Mend the file.") from error
    return module
