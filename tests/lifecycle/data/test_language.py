"""Languages by a model on disk; without one, an error that says where to get it."""

import importlib.util
import os

import pytest

from lifecycle.data.language import LanguageModel, LanguageRule, loaded_model, model_path
from lifecycle.errors import ConfigError

ENGLISH = "The captain counted his men and found that two were missing.\nRain had fallen since noon."
GERMAN = "Der Kapitän zählte seine Leute und bemerkte, dass zwei fehlten. Seit Mittag regnete es."


def test_the_wrong_language_and_the_unsure_are_two_reasons():
    model = LanguageModel(LanguageRule())
    assert model.drop(ENGLISH) is None
    other, unsure = model.drop(GERMAN), LanguageModel(LanguageRule(min_score=1.0)).drop(ENGLISH[:30])
    assert other is not None
    assert other.reason == "language_other"
    assert other.detail.startswith("de at 0.")
    assert unsure is not None
    assert unsure.reason == "language_unsure"
    assert [found.code for found in model.identify([ENGLISH, GERMAN, ""])][:2] == ["en", "de"]
    assert len(model.digest) == 64


def test_a_missing_model_is_refused_before_anything_is_read(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"expected a model that identifies languages at .* found none"):
        model_path(LanguageRule(model=tmp_path / "none.ftz"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"llm-lifecycle\[language\]"):
        model_path(LanguageRule())


def test_a_model_that_is_another_file_now_is_read_again(tmp_path):
    rule = LanguageRule(model=tmp_path / "model.ftz")
    rule.model.write_bytes(model_path(LanguageRule()).read_bytes())
    first = loaded_model(rule)
    assert loaded_model(rule) is first
    os.utime(rule.model, ns=(0, 0))
    assert loaded_model(rule) is not first
