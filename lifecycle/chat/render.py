"""A conversation as ids and the mask of what the assistant must learn to say. No transformers, no Jinja, same ids."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import tokenizers

from lifecycle.chat.protocol import END, Protocol, load_tokenizer, protocol_of, structure_of
from lifecycle.chat.structure import ANSWER, SPOKEN, Messages, Structure, Unrenderable
from lifecycle.errors import ContractError


class Rendered(NamedTuple):
    """Both (T,): ids, and 1 where the token is an assistant's content or the stop token that ends it."""

    ids: list[int]
    assistant_mask: list[int]


class Join(NamedTuple):
    """The text between two contents: what is read with the left one, ids that nothing merges with, the rest."""

    left: str
    ids: list[int] | None  # None: no special token parts the two contents, which are read as one text
    right: str
    right_ids: list[int]
    supervised: list[int]  # of `ids`: after an answer up to and with the stop token, within an answer all


class Piece(NamedTuple):
    """A text of a conversation, and the join behind it."""

    text: str
    join: Join
    spoken: int  # 1 where an assistant says the text, but for the ids of `opening`, which its prompt ended with
    opening: list[int]


NOTHING = Join("", [], "", [], [])
MERGES = "answer_merges_with_prompt"


class Renderer:
    """Renders conversations in the protocol of a tokenizer folder."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, structure: Structure, protocol: Protocol) -> None:
        self.tokenizer, self.structure, self.protocol = tokenizer, structure, protocol
        self.is_foreign = structure.stop != END
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = {token.content: number for number, token in added.items() if token.special}
        if structure.stop not in self.special_ids:
            raise ContractError(
                f"expected a tokenizer with the special token {structure.stop!r}, found none. Use the one its chat "
                "protocol was made for."
            )
        longest_first = sorted(map(re.escape, self.special_ids), key=len, reverse=True)
        self._special = re.compile("|".join(longest_first))
        self.join = cache(self._joined)

    def render(self, messages: Messages, *, generation_prompt: bool = False) -> Rendered:
        """Ids and mask of a conversation; with `generation_prompt` up to where the assistant would speak next.

        What is between two special tokens is encoded as one text, as a server encodes the whole, but with special
        tokens read as plain text: nothing a user types can end a turn.
        """
        ids: list[int] = []
        mask: list[int] = []
        with specials_as_text(self.tokenizer):
            for text, join, spoken, opening in self.pieces(messages, generation_prompt=generation_prompt):
                if text:
                    own = self.tokenizer.encode(text, add_special_tokens=False).ids
                    if opening and own[: len(opening)] != opening:
                        raise merges(text)
                    ids += own
                    mask += (
                        [0] * len(opening) + [spoken] * (len(own) - len(opening)) if opening else [spoken] * len(own)
                    )
                ids += join.ids or ()
                mask += join.supervised
        return Rendered(ids, mask)

    def pieces(self, messages: Messages, *, generation_prompt: bool = False) -> Iterator[Piece]:
        """What a conversation is made of: texts to encode, each with a join of known ids behind it."""
        text: str = ""
        opening: list[int] = []
        for left, right, content in self.structure.neighbours(messages, generation_prompt=generation_prompt):
            join = self.join(left, right)
            if join.ids is None:
                text += join.left + content
                continue
            yield Piece(text + join.left, join, int(left in SPOKEN), opening)
            text, opening = join.right + content, join.right_ids if right == ANSWER else []
        if text:
            yield Piece(text, NOTHING, 0, [])

    def typed(self, messages: Messages, *, generation_prompt: bool = False) -> str | None:
        """A special token that stands in a message as text, or None. A server would read it as the token.

        Also one that two messages, or a message and the text beside it, make together.
        """
        for text, *_ in self.pieces(messages, generation_prompt=generation_prompt):
            found = self._special.search(text)
            if found is not None:
                return found.group()
        return None

    def without_specials(self, text: str) -> str:
        """A text without what reads as a special token: what a server makes of an answer that it does not parse."""
        return self._special.sub("", text)

    def must_be_served_alike(self, messages: Messages) -> None:
        """Raise Unrenderable where a server would read what somebody typed as a special token.

        Our own template refuses such a message, so that nothing is served otherwise than it was trained. A foreign one
        lets it open a turn: we keep it text when asked, and do not train on it.
        """
        if self.is_foreign and (token := self.typed(messages)):
            raise Unrenderable(
                "special_token_typed",
                f"expected messages without special tokens, found {token!r} in one, which a server would take for the "
                "end or the beginning of a turn. Leave the conversation out.",
            )

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids if text else []

    def _joined(self, left: str, right: str) -> Join:
        """The join of two neighbours, its special tokens found once."""
        text = self.structure.between(left, right)
        found = list(self._special.finditer(text))
        if not found:
            return Join(text, None, "", [], [])
        ids: list[int] = []
        learned, at = 0, found[0].start()
        with specials_as_text(self.tokenizer):
            for match in found:
                ids += [*self._encode(text[at : match.start()]), self.special_ids[match.group()]]
                at = match.end()
                if match.group() == self.structure.stop and not learned:
                    learned = len(ids)
            rest = self._encode(text[at:])
        if left not in SPOKEN:
            learned = 0
        elif right in SPOKEN - {ANSWER}:
            learned = len(ids)
        supervised = [1] * learned + [0] * (len(ids) - learned)
        return Join(text[: found[0].start()], ids, text[at:], rest, supervised)


def merges(text: str) -> Unrenderable:
    """The reason why an answer that opens this text cannot be rendered."""
    return Unrenderable(
        MERGES,
        f"expected an answer whose first token is its own, found one that merges with the text before it: "
        f"{text[:80]!r}. A model asked for it would be shown other ids: remove white space at its start.",
    )


def load_renderer(folder: Path) -> Renderer:
    """The renderer of a tokenizer folder: ours, or a foreign one whose template was proven."""
    protocol = protocol_of(folder)
    return Renderer(load_tokenizer(folder), structure_of(folder), protocol)


@contextmanager
def specials_as_text(tokenizer: tokenizers.Tokenizer) -> Iterator[None]:
    """Read special tokens in text as text, and leave the tokenizer as it was."""
    before = tokenizer.encode_special_tokens
    tokenizer.encode_special_tokens = True
    try:
        yield
    finally:
        tokenizer.encode_special_tokens = before
