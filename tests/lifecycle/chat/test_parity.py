"""Each law of a rendered conversation, broken once; the message shows the row."""

import pytest
from tokenizers import normalizers

from lifecycle.chat import parity
from lifecycle.chat.folder import save_tokenizer
from lifecycle.chat.render import Rendered, load_renderer
from lifecycle.errors import ContractError

MESSAGES = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "xy"}]


@pytest.fixture
def rendered(renderer) -> Rendered:
    """<|bos|> <|user|> a b <|end|> <|assistant|> x y <|end|>, the last three supervised."""
    return renderer.render(MESSAGES)


def test_a_good_row_passes(renderer, rendered):
    parity.check(renderer, MESSAGES, rendered, row="r1")


@pytest.mark.parametrize("value", [0, 1])
def test_a_row_with_all_or_none_in_the_loss_is_refused(renderer, rendered, value):
    mask = [value] * len(rendered.ids)
    with pytest.raises(ContractError, match=r"row r1: expected some tokens in the loss and some not, found (0|9) of 9"):
        parity.check(renderer, MESSAGES, Rendered(rendered.ids, mask), row="r1")


def test_a_user_token_in_the_loss_is_refused(renderer, rendered):
    mask = [0, 0, 0, 1, *rendered.assistant_mask[4:]]
    with pytest.raises(ContractError, match=r"differs from token 3 on: <\|bos\|><\|user\|>a\[b\]"):
        parity.check(renderer, MESSAGES, Rendered(rendered.ids, mask), row="r1")


def test_a_stop_token_outside_the_loss_is_refused(renderer, rendered):
    mask = [*rendered.assistant_mask[:-1], 0]
    with pytest.raises(ContractError, match="the mask differs from token 8"):
        parity.check(renderer, MESSAGES, Rendered(rendered.ids, mask), row="r1")
    with pytest.raises(ContractError, match=r"expected a supervised <\|end\|> for each of 1 answers, found 0"):
        parity.every_answer_is_taught_to_stop(renderer, MESSAGES, Rendered(rendered.ids, mask), row="r1")


def test_a_conversation_cut_in_its_answer_is_refused(renderer, rendered):
    cut = Rendered(rendered.ids[:-1], rendered.assistant_mask[:-1])
    with pytest.raises(ContractError, match="must not be cut in its answer"):
        parity.check(renderer, MESSAGES, cut, row="r1")


def test_a_tokenizer_that_loses_text_is_refused(bpe, tmp_path):
    bpe.normalizer = normalizers.Lowercase()
    save_tokenizer(bpe, tmp_path)
    lossy = load_renderer(tmp_path)
    messages = [{"role": "user", "content": "AB"}, MESSAGES[1]]
    with pytest.raises(ContractError, match=r"expected .*AB.* back from its ids, found .*ab"):
        parity.check(lossy, messages, lossy.render(messages), row="r1")


def test_a_prompt_that_generation_would_render_otherwise_is_refused(renderer, rendered):
    messages = [{"role": "user", "content": "ax"}, MESSAGES[1]]
    with pytest.raises(ContractError, match="expected the prompt before message 1 to open the whole conversation"):
        parity.prefixes_agree(renderer, messages, rendered, row="r1")
