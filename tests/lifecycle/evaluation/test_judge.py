"""A reward is read at a conversation's last token, whatever that token is."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from lifecycle.chat.folder import copy_tokenizer
from lifecycle.errors import ContractError
from lifecycle.evaluation.judge import RewardJudge

CPU = torch.device("cpu")


def test_a_reward_is_that_of_the_whole_conversation_though_it_ends_in_the_padding_token(base, tmp_path):
    torch.manual_seed(0)
    head = AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=1)
    head.save_pretrained(tmp_path / "judge")
    copy_tokenizer(base.path, tmp_path / "judge")
    judge = RewardJudge(tmp_path / "judge", CPU)
    pad, stop = judge.renderer.protocol.pad_id, judge.renderer.protocol.stop_id
    rows = [[7, 8, 9, stop], [7, 8, pad, pad], [7, 8], [0, 0, 0, 0, 0, 0]]
    together = judge.rewards(rows)
    assert together == pytest.approx([judge.rewards([row])[0] for row in rows], abs=1e-4)
    assert together[1] != together[2]


def test_a_judge_that_is_read_elsewhere_is_refused(base, tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertForSequenceClassification(BertConfig(vocab_size=99, num_labels=1, **sizes)).save_pretrained(tmp_path / "bert")
    copy_tokenizer(base.path, tmp_path / "bert")
    with pytest.raises(ContractError, match="expected a decoder with a linear `score` at its end, found Bert"):
        RewardJudge(tmp_path / "bert", CPU)
