"""The mask view shows exactly what training supervises, from the sealed tokenizer, and whatever the text holds."""

import pytest
from rich.console import Console

from lifecycle.chat.protocol import END
from lifecycle.chat.render import load_renderer
from lifecycle.data.jsonl import load_rows
from lifecycle.errors import InputError
from lifecycle.report import mask
from lifecycle.runs import Run
from lifecycle.store import Made, Store


@pytest.fixture
def run(tmp_path, base, sft, demonstrations, comparisons):
    made = Run.start(Store(tmp_path / "store"), flow="post-train", recipe="micro", settings=[])
    for label, artifact in (
        ("pretrain", base),
        ("demonstrations", demonstrations),
        ("sft", sft),
        ("comparisons", comparisons),
    ):
        made.add(Made(artifact=artifact, reused=False, seconds=0.0), label=label)
    return made


def printed(rows) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(mask.screen(rows))
    return console.export_text()


def test_each_token_is_shown_with_the_mask_training_gives_it(run, base, demonstrations):
    [row] = mask.of_run(run, "sft", rows=1)
    first = next(load_rows(demonstrations.path / "train.jsonl"))
    rendered = load_renderer(base.path).render(first["messages"])
    assert [piece.id for piece in row.pieces] == rendered.ids
    assert [piece.supervised for piece in row.pieces] == [bool(m) for m in rendered.assistant_mask]
    stop = row.pieces[-1]
    assert (stop.text, stop.style) == (END, "supervised special")
    assert f"{sum(rendered.assistant_mask)} of {len(rendered.ids)} tokens in the loss" in printed([row])


def test_of_a_comparison_both_answers_are_shown(run):
    rows = mask.of_run(run, "preference", rows=2)
    assert [row.name.split()[-1] for row in rows] == ["(chosen)", "(rejected)"]
    prompts = [[piece.id for piece in row.pieces if not piece.supervised] for row in rows]
    assert prompts[0] == prompts[1]


def test_what_a_text_holds_is_shown_and_never_obeyed(base):
    hostile = [mask.Piece("<script>alert(1)</script>\x1b[2J", 7, True, False)]
    row = mask.MaskedRow("<img src=x>", "s", hostile)
    page = mask.page([row], "<b>run</b>")
    assert "<script>" not in page
    assert "<img" not in page
    assert "<b>run" not in page
    assert "\x1b" not in page + printed([row])


def test_a_row_no_step_is_taken_on_says_so(run, base, demonstrations, monkeypatch):
    monkeypatch.setattr(mask.Checkpoint, "load", lambda path: base.model_copy(update={"max_seq_len": 4}))
    [row] = mask.of_run(run, "sft", rows=1)
    assert row.headline.endswith("left out: longer than 4 tokens")


@pytest.mark.parametrize("stage", ["pretrain", "no such stage"])
def test_a_stage_without_a_mask_is_refused(run, stage):
    with pytest.raises(InputError, match="Name another run, or --stage sft or preference"):
        mask.of_run(run, stage, rows=1)


def test_characters_of_several_tokens_are_whole_and_a_row_the_protocol_cannot_write_says_so(base, run, demonstrations):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked, answer = {"role": "user", "content": "日本 \ufffd"}, {"role": "assistant", "content": "🎉é"}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    renderer = load_renderer(base.path)
    row = mask._masked(renderer, "r", "s", [asked, answer, asked, answer], 64)
    assert "".join(piece.text for piece in row.pieces) == renderer.structure.text([asked, answer, asked, answer])
    assert "".join(piece.text for piece in row.pieces if piece.supervised) == f"🎉é{END}" * 2
    refused = mask._masked(renderer, "r", "s", [asked, calling], 64)
    assert (refused.pieces, refused.left_out) == ([], "left out: tool_calls_not_in_protocol")
