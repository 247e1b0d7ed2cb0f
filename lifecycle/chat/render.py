"""A conversation as ids and the mask of what the assistant must learn to say. No transformers, same ids."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import tokenizers

from lifecycle.chat.protocol import BOS, END, ROLE_TOKENS
from lifecycle.errors import ContractError


class Rendered(NamedTuple):
    """Both (T,): ids, and 1 where the token is an assistant's content or the stop token that ends it."""

    ids: list[int]
    assistant_mask: list[int]


def render(
    tokenizer: tokenizers.Tokenizer, messages: Iterable[Mapping[str, str]], *, generation_prompt: bool = False
) -> Rendered:
    """<|bos|>, then <|role|>content<|end|> per message; with `generation_prompt` a last <|assistant|>.

    Content is encoded on its own, with special tokens read as plain text: nothing a user types can end a turn.
    """
    ids, mask = [_id(tokenizer, BOS)], [0]
    end = _id(tokenizer, END)
    with _specials_as_text(tokenizer):
        for message in messages:
            content = tokenizer.encode(message["content"], add_special_tokens=False).ids
            supervised = int(message["role"] == "assistant")
            ids += [_role_id(tokenizer, message["role"]), *content, end]
            mask += [0, *[supervised] * (len(content) + 1)]
    if generation_prompt:
        ids.append(_role_id(tokenizer, "assistant"))
        mask.append(0)
    return Rendered(ids, mask)


@contextmanager
def _specials_as_text(tokenizer: tokenizers.Tokenizer) -> Iterator[None]:
    """Read special tokens in text as text, and leave the tokenizer as it was."""
    before = tokenizer.encode_special_tokens
    tokenizer.encode_special_tokens = True
    try:
        yield
    finally:
        tokenizer.encode_special_tokens = before


def _role_id(tokenizer: tokenizers.Tokenizer, role: str) -> int:
    if role not in ROLE_TOKENS:
        raise ContractError(f"expected a role of {', '.join(ROLE_TOKENS)}, found {role!r}. Correct the conversation.")
    return _id(tokenizer, ROLE_TOKENS[role])


def _id(tokenizer: tokenizers.Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ContractError(
            f"expected a tokenizer with the special token {token!r}, found none. Use the tokenizer stage's."
        )
    return int(found)
