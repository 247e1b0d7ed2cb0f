"""Rows as training examples: none is cut, each that is left out is counted."""

import pytest

from lifecycle.chat import examples
from lifecycle.errors import ContractError

USER, ANSWER = {"role": "user", "content": "ab"}, {"role": "assistant", "content": "xy"}
LONG = {"role": "assistant", "content": "x y " * 20}


def test_a_conversation_that_does_not_fit_is_left_out_and_counted(renderer):
    rows = [
        {"id": "1", "source": "s", "messages": [USER, ANSWER]},
        {"id": "2", "source": "s", "messages": [USER, LONG]},
    ]
    read = examples.demonstrations(renderer, rows, max_seq_len=9)
    assert [len(row.ids) for row in read.rows] == [9]
    assert read.dropped == {"longer_than_max_seq_len": 1}


def test_the_supervised_share_is_told_by_source(renderer):
    longer = [{"role": "user", "content": "abababab"}, ANSWER]
    rows = [{"id": "1", "source": "a", "messages": [USER, ANSWER]}, {"id": "2", "source": "b", "messages": longer}]
    read = examples.demonstrations(renderer, rows, max_seq_len=64)
    assert read.sources == ["a", "b"]
    assert read.supervised_share("a") == 3 / 9
    assert read.supervised_share("b") < read.supervised_share() < read.supervised_share("a")


def test_both_answers_of_a_pair_end_with_the_stop_token_and_share_the_prompt(renderer):
    row = {"id": "1", "prompt": [USER], "chosen": [ANSWER], "rejected": [{"role": "assistant", "content": "xyz"}]}
    [pair] = examples.comparisons(renderer, [row], max_seq_len=64).rows
    assert (
        renderer.tokenizer.decode(pair.prompt_ids, skip_special_tokens=False) == "<|bos|><|user|>ab<|end|><|assistant|>"
    )
    assert renderer.tokenizer.decode(pair.chosen_ids, skip_special_tokens=False) == "xy<|end|>"
    assert renderer.tokenizer.decode(pair.rejected_ids, skip_special_tokens=False) == "xyz<|end|>"
    assert pair.length == 10


def test_a_pair_is_left_out_when_one_side_does_not_fit(renderer):
    row = {"id": "1", "prompt": [USER], "chosen": [ANSWER], "rejected": [LONG]}
    read = examples.comparisons(renderer, [row], max_seq_len=20)
    assert (read.rows, read.dropped) == ([], {"longer_than_max_seq_len": 1})


def test_a_pair_of_equal_answers_is_refused(renderer):
    row = {"id": "p7", "prompt": [USER], "chosen": [ANSWER], "rejected": [ANSWER]}
    with pytest.raises(ContractError, match="row p7: expected two different answers"):
        examples.comparisons(renderer, [row], max_seq_len=64)


@pytest.mark.parametrize(("kept", "lost"), [(97, 3), (0, 0)])
def test_too_many_rows_left_out_or_none_left_is_refused(kept, lost):
    examples.most_rows_fit({"long": 1}, 99, max_dropped_share=0.01, max_seq_len=128)
    with pytest.raises(ContractError, match=rf"at most 1.0% of the rows .* found {lost} of {kept + lost}"):
        examples.most_rows_fit({"long": lost}, kept, max_dropped_share=0.01, max_seq_len=128)
