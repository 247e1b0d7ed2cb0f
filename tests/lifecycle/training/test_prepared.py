"""Prepared rows are those of one by one, on disk; what breaks a law is refused with its row."""

import json
from unittest.mock import Mock

import numpy as np
import orjson
import pytest
import tokenizers

from lifecycle.chat import examples, golden
from lifecycle.chat.batch import render_batch
from lifecycle.chat.render import Renderer
from lifecycle.data.jsonl import load_rows
from lifecycle.errors import ContractError
from lifecycle.training import prepared
from lifecycle.training.row_laws import TokenBytes, check_batch
from lifecycle.workers.posttrain import load_protocol

TEXTS = ["naïve 日本 🎉", "the record of a package", "a<|end|>b", '{"section": "libs"}', "x"]
MAX_SEQ_LEN = 40


def rows(count: int = 60) -> list[dict]:
    found = []
    for number in range(count):
        turns = [(role, TEXTS[(number + at) % 5]) for at, role in enumerate(("user", "assistant") * (1 + number % 3))]
        messages = [{"role": role, "content": content} for role, content in turns]
        found.append({"id": f"r{number}", "source": "ab"[number % 2], "messages": messages})
    return [*found, {"id": "odd", "source": "a", "messages": [{"role": "critic", "content": "a"}]}]


@pytest.fixture
def file(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows()))
    return tmp_path / "train.jsonl"


@pytest.mark.parametrize("too_long", ["drop", "cut"])
@pytest.mark.parametrize("block_rows", [7, 8_192])
def test_prepared_rows_are_what_one_by_one_gives(renderer, file, tmp_path, monkeypatch, too_long, block_rows):
    monkeypatch.setattr(prepared, "BLOCK_ROWS", block_rows)
    found = prepared.prepare(renderer, file, tmp_path / "out", max_seq_len=MAX_SEQ_LEN, too_long=too_long)
    expected = examples.demonstrations(renderer, load_rows(file), max_seq_len=MAX_SEQ_LEN, too_long=too_long)
    assert list(found.rows) == expected.rows
    assert (found.dropped, found.cut) == (expected.dropped, expected.cut)
    assert "role_not_in_protocol" in found.dropped
    assert (found.cut > 0) == (too_long == "cut")
    assert found.supervised_share() == expected.supervised_share()
    assert [found.supervised_share(name) for name in found.sources] == [expected.supervised_share(n) for n in "ab"]
    again = prepared.load(tmp_path / "out")
    assert list(again.rows) == expected.rows
    assert again.rows[-1] == expected.rows[-1]
    assert again.rows[2:4] == expected.rows[2:4]
    assert found.lengths.max() <= MAX_SEQ_LEN


def test_rows_with_tools_are_kept_calls_in_the_loss_and_results_not(tool_renderer, tmp_path):
    """As SFT reads them: prepared, the laws checked, and held against the chat template where nobody typed a token."""
    found = [{"id": f"r{n}", "source": "a", "messages": m} for n, m in enumerate(golden.TOOL_CONVERSATIONS)]
    (tmp_path / "train.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in found))
    compared = Mock(wraps=load_protocol(tmp_path / "with_tools").same_as_template)
    args = (tool_renderer, tmp_path / "train.jsonl", tmp_path / "out")
    kept = prepared.prepare(*args, max_seq_len=999, also=compared)
    assert list(kept.rows) == examples.demonstrations(tool_renderer, found, max_seq_len=999).rows
    assert (len(kept.rows), kept.dropped, compared.call_count) == (4, {}, 4)
    ids, mask = (np.array(column) for column in kept.rows[0][1:])
    learned = tool_renderer.tokenizer.decode(ids[mask == 1].tolist(), skip_special_tokens=False)
    call = '<|call|>{"name": "look_up", "arguments": {"what": "naïve \\"x\\"", "n": [1, null]}}'
    none = '<|call|>{"name": "look_up", "arguments": {}}'
    assert learned == f"{call}<|end|>Wait.{call}{none}<|end|>It is 1.<|end|>"


@pytest.mark.slow  # numba
def test_compiled_loops_encode_as_the_tokenizer_does(renderer, file, tmp_path, monkeypatch):
    slow = prepared.prepare(renderer, file, tmp_path / "slow", max_seq_len=64)
    monkeypatch.setattr(prepared, "FAST_FROM_BYTES", 1)
    fast = prepared.prepare(renderer, file, tmp_path / "fast", max_seq_len=64)
    assert np.array_equal(slow.ids, fast.ids)
    assert np.array_equal(slow.mask, fast.mask)


def test_a_conversation_is_cut_behind_an_answer_and_never_inside_one(renderer):
    messages = [{"role": role, "content": "x" * 8} for role in ("user", "assistant") * 3]
    ends = [len(renderer.render(messages[:end]).ids) for end in (2, 4, 6)]
    assert examples.cut_to_fit(renderer, messages, ends[2] - 1) == messages[:4]
    assert examples.cut_to_fit(renderer, messages, ends[1] - 1) == messages[:2]
    assert examples.cut_to_fit(renderer, messages, ends[0] - 1) is None


def test_nothing_that_fits_leaves_no_rows_and_says_so(renderer, file, tmp_path):
    found = prepared.prepare(renderer, file, tmp_path / "out", max_seq_len=1)
    assert (len(found.rows), found.dropped[examples.TOO_LONG]) == (0, 60)


@pytest.mark.parametrize("fault", ["mask", "shifted", "ids", "stop"])
def test_a_batch_that_breaks_a_law_is_refused_with_its_row(renderer, fault):
    conversations = [row["messages"] for row in rows(9)[:-1]]
    encode = prepared.encoder(renderer.tokenizer, 0)
    batch = render_batch(renderer, conversations, encode)
    names, known = [f"r{n}" for n in range(len(conversations))], TokenBytes(renderer.tokenizer)
    check_batch(renderer, names, conversations, batch, known)
    begin, end = batch.bounds[4:6]
    if fault == "mask":
        batch.mask[begin:end] = 0
    elif fault == "shifted":
        batch.mask[begin:end] = np.roll(batch.mask[begin:end], 1)
    elif fault == "ids":
        batch.ids[begin + 2] += 1
    else:
        batch.mask[end - 1] = 0
    with pytest.raises(ContractError, match="row r4: expected"):
        check_batch(renderer, names, conversations, batch, known)


def test_ids_beyond_the_number_of_tokens_are_kept_whole(renderer, file, tmp_path):
    """A vocabulary may have gaps: 300 tokens, and one with the id 70,000."""
    found = json.loads(renderer.tokenizer.to_str())
    found["model"]["vocab"]["a token far away"] = 70_000
    far = Renderer(tokenizers.Tokenizer.from_str(json.dumps(found)), renderer.structure, renderer.protocol)
    assert prepared.prepare(far, file, tmp_path / "out", max_seq_len=MAX_SEQ_LEN).ids.dtype == np.uint32
