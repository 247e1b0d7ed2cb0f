"""The faults that `benchmarks/ablations.py` plants behind the contracts, planted before them: each is refused, by name,
before a step is trained or an item is asked."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import processors

from benchmarks.ablations import TRAINED, Taught
from lifecycle.artifacts import Checkpoint
from lifecycle.chat import golden
from lifecycle.chat.render import Rendered, Renderer, load_renderer
from lifecycle.errors import ContractError
from lifecycle.evaluation.encode import digest
from lifecycle.evaluation.items import Item
from lifecycle.sealing import StageConfig
from lifecycle.stages.evaluate import EvaluateConfig, evaluate
from lifecycle.stages.sft import SftConfig, SftJob
from lifecycle.training import conversations, prepared
from lifecycle.workers import handoff, sft
from lifecycle.workers.job import Recorder

MASKS = ("mask off", "mask one token late", "stop token unsupervised")


@pytest.fixture
def fine_tune(base, demonstrations, tmp_path):
    """Fine-tune as the stage's worker does; the log's rows that hold a loss come back even when it raised."""

    def run(**settings):
        (tmp_path / "out" / "log").mkdir(parents=True)
        job = SftJob(
            out_dir=tmp_path / "out",
            scratch_dir=tmp_path / "out" / "scratch",
            config=SftConfig(**{"epochs": 1, "batch_rows": 16, "learning_rate": 1e-2, "log_every_steps": 1} | settings),
            base=base.path,
            train_file=demonstrations.path / "train.jsonl",
            dev_file=demonstrations.path / "dev.jsonl",
            max_seq_len=base.max_seq_len,
        )
        return sft.train(job, Recorder(job.out_dir / "log"))

    yield run
    log = tmp_path / "out" / "log" / "metrics.jsonl"
    steps = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    assert not [row for row in steps if "loss" in row], "a step was taken"


def plant(monkeypatch, fault: str) -> None:
    """Have the renderer mask as this fault does, one conversation at a time and many at once."""
    render, render_batch, (change, _) = Renderer.render, prepared.render_batch, TRAINED[fault]

    def faulty(self, messages, **how):
        return Rendered(*change(Taught(*render(self, messages, **how)), self.protocol.stop_id))

    def faulty_batch(renderer, *given, **how):
        batch = render_batch(renderer, *given, **how)
        rows = [
            (batch.ids[begin:end].tolist(), batch.mask[begin:end].tolist()) for begin, end in pairwise(batch.bounds)
        ]
        masks = [change(Taught(*row), renderer.protocol.stop_id).assistant_mask for row in rows]
        return batch._replace(mask=np.array([each for mask in masks for each in mask], batch.mask.dtype))

    monkeypatch.setattr(Renderer, "render", faulty)
    monkeypatch.setattr(prepared, "render_batch", faulty_batch)


@pytest.mark.parametrize("fault", MASKS)
def test_a_mask_that_is_not_the_one_on_the_day_of_sealing_is_refused(fine_tune, monkeypatch, fault):
    plant(monkeypatch, fault)
    with pytest.raises(ContractError, match="expected the ids its model was trained with, found others at golden conv"):
        fine_tune()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("mask off", "row d0: expected some tokens in the loss and some not, found .* in it"),
        ("mask one token late", "row d0: expected the loss on the assistant's answer and its .* only; the mask"),
        ("stop token unsupervised", "row d0: expected the loss on the assistant's answer and its .* only; the mask"),
    ],
)
def test_a_mask_that_was_wrong_from_the_first_day_is_refused_at_the_first_row(
    fine_tune, base, monkeypatch, fault, message
):
    plant(monkeypatch, fault)
    golden.seal(load_renderer(base.path), base.path)
    with pytest.raises(ContractError, match=message):
        fine_tune()


@pytest.mark.parametrize("fault", MASKS)
def test_a_mask_that_is_lost_between_rows_and_tensors_is_refused(fine_tune, monkeypatch, fault):
    laid_out, (change, _) = conversations.padded, TRAINED[fault]

    def faulty(rows, *, pad_id):
        return laid_out([Taught(*change(Taught(row.ids, row.assistant_mask), 2)) for row in rows], pad_id=pad_id)

    monkeypatch.setattr(conversations, "padded", faulty)
    with pytest.raises(ContractError, match="The mask was lost or moved where rows are laid out as tensors"):
        fine_tune()


def test_packing_without_boundaries_is_refused(fine_tune, monkeypatch):
    packed = conversations.packed

    def faulty(rows, **how):
        found = packed(rows, **how)
        return {name: found[name] for name in ("input_ids", "labels")}

    monkeypatch.setattr(conversations, "packed", faulty)
    with pytest.raises(ContractError, match="laid out together: they see each other, or their positions run on"):
        fine_tune(layout="packed")


def newline_behind_roles(folder: Path) -> None:
    edit(folder, "'<|assistant|>'", "'<|assistant|>\\n'")


def no_system_turn(folder: Path) -> None:
    edit(folder, "{%- for message in messages -%}", "{%- for message in messages if message['role'] != 'system' -%}")


def bos_twice(folder: Path) -> None:
    edit(folder, "{{- '<|bos|>' -}}", "{{- '<|bos|><|bos|>' -}}")


def edit(folder: Path, before: str, after: str) -> None:
    template = folder / "chat_template.jinja"
    text = template.read_text()
    assert before in text
    template.write_text(text.replace(before, after))


EDITS = pytest.mark.parametrize("change", [newline_behind_roles, no_system_turn, bos_twice])


class Again(StageConfig):
    stage = "again"


@EDITS
def test_a_template_edited_for_evaluation_is_refused_before_an_item_is_asked(base, held_out, out_dir, change):
    change(base.path)
    (base.path / "manifest.json").unlink()
    edited = Checkpoint(path=base.path, **base.facts()).seal(Again())
    with pytest.raises(ContractError, match=f"expected the chat protocol {base.protocol_digest[:12]} in .*, found"):
        evaluate(EvaluateConfig(max_new_tokens=6), edited, *held_out, out_dir=out_dir)
    assert not list(out_dir.iterdir())


@EDITS
def test_training_on_other_ids_than_the_template_gives_is_refused(base, fine_tune, change):
    change(base.path)
    with pytest.raises(ContractError, match=r"row golden conversation .*: expected the ids of the checkpoint's chat "):
        fine_tune()


@EDITS
def test_other_prompts_at_serving_are_a_difference_before_anybody_is_answered(base, change):
    """`python -m lifecycle handoff` compares what the release's own template gives with what was evaluated."""
    messages = [{"role": "system", "content": "Answer in JSON."}, {"role": "user", "content": "section: libs"}]
    asked = load_renderer(base.path).render(messages, generation_prompt=True).ids
    record = Item(kind="contract", suite="contract", id="t0", mode="greedy", prompt_digest=digest(asked), score=1.0)
    question = handoff.Question(messages, record)
    for expected in ([], ["prompt ids"]):
        (ids,) = handoff.prompts(base.path, [question])
        found = handoff.parted(question, ("prompt ids", record.prompt_digest, digest(ids)))
        assert [one.what for one in found] == expected
        if not expected:
            change(base.path)


def test_a_tokenizer_that_adds_a_second_bos_is_refused(base, held_out, out_dir):
    """A server that encodes the rendered text gets one BOS from the template and one from the tokenizer."""
    file = base.path / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", tokenizer.token_to_id("<|bos|>"))]
    )
    tokenizer.save(str(file))
    (base.path / "manifest.json").unlink()
    edited = Checkpoint(path=base.path, **base.facts()).seal(Again())
    with pytest.raises(ContractError, match=f"expected the chat protocol {base.protocol_digest[:12]} in .*, found"):
        evaluate(EvaluateConfig(max_new_tokens=6), edited, *held_out, out_dir=out_dir)
