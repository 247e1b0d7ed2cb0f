import pytest

from lifecycle.errors import InputError
from lifecycle.evaluation.kinds.pairwise import PairwiseSuite, RewardModel, Verifier, preference
from lifecycle.evaluation.kinds.suite import Generate, Reward

CHECKS = [{"check": "contains", "texts": ["tea"]}, {"check": "count", "of": "words", "at_most": 3}]
ROW = {"id": "r", "checks": CHECKS, "reference": "tea with a lot of milk"}


@pytest.fixture
def suite(tmp_path):
    return PairwiseSuite(name="duel", path=tmp_path / "duel.jsonl")


def test_swapping_sides_turns_the_preference_round():
    for first, second in (((1.0,), (2.0,)), ((2.0,), (1.0,)), ((1.0,), (1.0,))):
        assert preference(first, second) == 1 - preference(second, first)


@pytest.mark.parametrize(("said", "win"), [("tea", 1.0), ("a cup of coffee", 0.0), ("milk", 0.5)])
def test_a_verifier_prefers_the_answer_that_keeps_more_checks(suite, reply, said, win):
    (item,) = suite.graded(ROW, [[reply(said)]])
    assert (item.score, item.grades["consistent"]) == (win, 1.0)


def test_a_tie_can_go_to_the_shorter(suite, reply):
    shorter = suite.model_copy(update={"judge": Verifier(shorter_breaks_ties=True)})
    assert shorter.graded(ROW, [[reply("milk")]])[0].score == 1.0


def test_an_answer_that_was_cut_neither_wins_nor_loses(suite, reply):
    (item,) = suite.graded(ROW, [[reply("tea", stopped=False)]])
    assert (item.score, item.unmeasured) == (None, "truncated")


def test_a_reward_model_is_asked_about_both_answers(tmp_path, reply, user):
    suite = PairwiseSuite(name="duel", path=tmp_path / "x", judge=RewardModel(path=tmp_path / "judge"))
    row = {"id": "r", "messages": user(), "reference": "Rome"}
    first = suite.asks(row)
    assert [type(ask) for ask in first] == [Generate, Reward]
    greedy, sampled = reply("Paris"), reply("?", mode="sampled", stopped=False)
    (then,) = suite.asks_then(row, [[greedy, sampled], [reply(reward=1.0)]])
    assert [one.messages[-1]["content"] for one in (first[1], then)] == ["Rome", "Paris"]
    for reward, win in ((2.0, 1.0), (0.0, 0.0), (1.0, 0.5)):
        items = suite.graded(row, [[greedy, sampled], [reply(reward=1.0)], [reply(reward=reward)]])
        assert [(item.score, item.unmeasured) for item in items] == [(win, None), (None, "truncated")]
    (lost, _) = suite.graded(row, [[greedy, sampled], [reply(reward=1.0)], [reply(reward=None, fault="does_not_fit")]])
    assert (lost.score, lost.unmeasured) == (None, "judge_undecided")


@pytest.mark.parametrize("odd", ["model.bin", "modeling.py"])
def test_a_judge_that_could_carry_code_is_refused(tmp_path, odd):
    folder = tmp_path / "judge"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / odd).write_text("")
    suite = PairwiseSuite(name="duel", path=tmp_path / "x", judge=RewardModel(path=folder))
    with pytest.raises(InputError, match=f"found '{odd}'"):
        suite.sealed_into(tmp_path)


def test_a_judge_with_code_of_its_own_is_refused(tmp_path):
    folder = tmp_path / "judge"
    folder.mkdir()
    (folder / "config.json").write_text('{"auto_map": {}}')
    suite = PairwiseSuite(name="duel", path=tmp_path / "x", judge=RewardModel(path=folder))
    with pytest.raises(InputError, match="auto_map"):
        suite.sealed_into(tmp_path)
