"""Each law of a rendered conversation, broken once; the message shows the row."""

import pytest
import tokenizers
from tokenizers import normalizers

from lifecycle.chat import parity
from lifecycle.chat.render import Rendered, render
from lifecycle.errors import ContractError

MESSAGES = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "xy"}]


@pytest.fixture
def rendered(bpe) -> Rendered:
    """<|bos|> <|user|> a b <|end|> <|assistant|> x y <|end|>, the last three supervised."""
    return render(bpe, MESSAGES)


def test_a_good_row_passes(bpe, rendered):
    parity.check(bpe, MESSAGES, rendered, row="r1")


@pytest.mark.parametrize("value", [0, 1])
def test_a_row_with_all_or_none_in_the_loss_is_refused(bpe, rendered, value):
    mask = [value] * len(rendered.ids)
    with pytest.raises(ContractError, match=r"row r1: expected some tokens in the loss and some not, found (0|9) of 9"):
        parity.check(bpe, MESSAGES, Rendered(rendered.ids, mask), row="r1")


def test_a_user_token_in_the_loss_is_refused(bpe, rendered):
    mask = [0, 0, 0, 1, *rendered.assistant_mask[4:]]
    with pytest.raises(ContractError, match=r"differs from token 3 on: <\|bos\|><\|user\|>a\[b\]"):
        parity.check(bpe, MESSAGES, Rendered(rendered.ids, mask), row="r1")


def test_a_stop_token_outside_the_loss_is_refused(bpe, rendered):
    mask = [*rendered.assistant_mask[:-1], 0]
    with pytest.raises(ContractError, match="the mask differs from token 8"):
        parity.check(bpe, MESSAGES, Rendered(rendered.ids, mask), row="r1")
    with pytest.raises(ContractError, match=r"expected a supervised <\|end\|> for each of 1 answers, found 0"):
        parity.every_answer_is_taught_to_stop(bpe, Rendered(rendered.ids, mask), row="r1")


def test_a_conversation_cut_in_its_answer_is_refused(bpe, rendered):
    cut = Rendered(rendered.ids[:-1], rendered.assistant_mask[:-1])
    with pytest.raises(ContractError, match="must not be cut in its answer"):
        parity.check(bpe, MESSAGES, cut, row="r1")


def test_a_tokenizer_that_loses_text_is_refused(bpe):
    lossy = tokenizers.Tokenizer.from_str(bpe.to_str())
    lossy.normalizer = normalizers.Lowercase()
    messages = [{"role": "user", "content": "AB"}, MESSAGES[1]]
    with pytest.raises(ContractError, match=r"expected .*AB.* back from its ids, found .*ab"):
        parity.check(lossy, messages, render(lossy, messages), row="r1")


def test_a_prompt_that_generation_would_render_otherwise_is_refused(bpe, rendered):
    messages = [{"role": "user", "content": "ax"}, MESSAGES[1]]
    with pytest.raises(ContractError, match="expected the prompt before message 1 to open the whole conversation"):
        parity.prefixes_agree(bpe, messages, rendered, row="r1")
