"""A desk of answers drawn from checkpoints: drawn once, in a worker, and the same desk for the same command."""

import orjson
import pytest

from lifecycle.commands import desk as command
from lifecycle.desk import make
from lifecycle.desk.folder import Desk, DeskConfig
from lifecycle.errors import ConfigError, DamagedArtifact, InputError


@pytest.fixture
def wanted(tmp_path):
    """Two answers of a file compared; fields replaced as asked."""
    rows = [
        {"prompt": [{"role": "user", "content": f"{n}?"}], "answers": [{"content": "yes"}, {"content": f"no, {n}"}]}
        for n in range(3)
    ]
    (tmp_path / "answers.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    plain = make.Wanted(
        config=DeskConfig(),
        answers=[tmp_path / "answers.jsonl"],
        gold=None,
        prompts=None,
        checkpoints={},
        samples=None,
        temperature=1.0,
        max_new_tokens=24,
        store=tmp_path / "store",
    )
    return lambda **fields: plain._replace(**fields)


def test_the_same_command_finds_the_same_desk_and_another_one_another(wanted):
    first = make.made(wanted(), None)
    assert len(first.items) == 3
    assert make.made(wanted(), None).folder == first.folder
    assert make.made(wanted(config=DeskConfig(repeat_share=0.5)), None).folder != first.folder
    assert first.folder.stat().st_mode & 0o077 == 0, "links and votes are their owner's"


def test_a_desk_is_never_reused_for_other_answers(wanted, tmp_path):
    make.made(wanted(), tmp_path / "desk")
    with pytest.raises(InputError, match=r"found other config\.seed"):
        make.made(wanted(config=DeskConfig(seed=1)), tmp_path / "desk")
    (tmp_path / "answers.jsonl").write_bytes((tmp_path / "answers.jsonl").read_bytes().replace(b"yes", b"Yes"))
    with pytest.raises(InputError, match=r"found other made_of\.answers"):
        make.made(wanted(), tmp_path / "desk")


def test_items_that_were_changed_under_the_votes_are_refused(wanted):
    desk = make.made(wanted(), None)
    path = desk.folder / "items.jsonl"
    path.write_bytes(path.read_bytes().replace(b"yes", b"YES"))
    with pytest.raises(DamagedArtifact, match="What people voted on was changed"):
        Desk(desk.folder)


def test_what_is_compared_must_be_said_once(wanted, tmp_path):
    for fields in ({"answers": []}, {"checkpoints": {"a": tmp_path}}, {"answers": [], "checkpoints": {"a": tmp_path}}):
        with pytest.raises(ConfigError, match="expected answers to compare"):
            make.made(wanted(**fields), None)


def test_equal_answers_leave_nothing_to_compare(wanted, tmp_path):
    row = {"prompt": [{"role": "user", "content": "?"}], "answers": [{"content": "yes"}, {"content": "yes "}]}
    (tmp_path / "same.jsonl").write_bytes(orjson.dumps(row))
    with pytest.raises(InputError, match="two different answers to compare, found none: same answer 1"):
        make.made(wanted(answers=[tmp_path / "same.jsonl"]), None)
    assert not list(tmp_path.glob("store/desks/*/desk.json"))


@pytest.mark.slow
def test_answers_are_drawn_once_with_their_seeds_and_a_second_start_draws_none(wanted, sft, tmp_path, monkeypatch):
    rows = [{"id": f"p{n}", "prompt": [{"role": "user", "content": f"{n}"}]} for n in range(8)]
    (tmp_path / "prompts.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    asked = wanted(answers=[], prompts=tmp_path / "prompts.jsonl", checkpoints={"mine": sft.path}, samples=40)
    said = []
    desk = make.made(asked, None, tell=said.append)
    assert any("answers of mine: 8 of 8 prompts" in line for line in said), "progress is shown"
    item = next(iter(desk.items.values()))
    assert {answer.system for answer in item.answers} == {sft.digest}
    assert desk.system(sft.digest) == "mine"
    assert {"seed", "sample", "temperature", "tokens", "logprob"} <= set(item.answers[0].drawn)
    assert desk.record.left_out["answer that did not stop"] > 0

    monkeypatch.setattr(make, "run_worker", lambda *_, **__: pytest.fail("drawn again"))
    (desk.folder / "desk.json").unlink()  # killed after the answers were drawn and before the desk was there
    assert make.made(asked, None).items == desk.items


def test_a_checkpoint_is_a_folder_or_a_run(sft):
    assert command._checkpoint(str(sft.path), "nowhere") == sft.path
