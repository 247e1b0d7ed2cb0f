"""How a sealed tokenizer fits its corpus: the report that was sealed with it, gathered for a page and the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from lifecycle.artifacts import Tokenizer
from lifecycle.data.tokenizer_fit import RARE, Fit
from lifecycle.report.data_card_notices import Notice
from lifecycle.report.data_card_screens import columns
from lifecycle.report.key_numbers import size
from lifecycle.report.sealed_files import opened, told
from lifecycle.report.text import one_line
from lifecycle.report.words import percent

SHOWN_TOKENS = 12
FILE = "fit.json"
WORSE = 0.9  # of the reference's bytes a token: longer texts for the same words
UNUSED = 0.1  # of the learned tokens: rows of the embedding that training never moves

GROUPS: Mapping[str, str] = {
    "unused_in_sample": "in no document of the sample",
    "rare_in_sample": f"in the sample, but fewer than {RARE} times",
    "unreachable": "their own text is encoded otherwise, so nothing can ever train them",
    "partial_utf8": "a part of a character, or of several",
}


@dataclass(frozen=True)
class TokenizerCard:
    """A tokenizer with its fit."""

    tokenizer: Tokenizer
    fit: Fit

    @property
    def has_reference(self) -> bool:
        return any(source.reference_bytes_per_token is not None for source in self.fit.sources.values())

    @property
    def bytes_per_token(self) -> float:
        """Over the whole sample."""
        sources = self.fit.sources.values()
        return sum(source.bytes for source in sources) / max(1, sum(source.tokens for source in sources))

    @cached_property
    def groups(self) -> dict[str, tuple[str, int, list[str]]]:
        """Tokens that a model hardly learns, by kind: what it means, how many, and some of them."""
        return {name: (says, getattr(self.fit, name), self.fit.examples.get(name, [])) for name, says in GROUPS.items()}

    @cached_property
    def notices(self) -> list[Notice]:
        """What a reader should look at."""
        fit, found = self.fit, []
        for name, source in fit.sources.items():
            other = source.reference_bytes_per_token
            if other is not None and source.bytes_per_token < WORSE * other:
                said = f"{name}: {source.bytes_per_token:.2f} bytes a token, the reference {other:.2f}"
                found.append(Notice("bad", f"{said}: the same text takes more of the model's context."))
            if source.changed_documents:
                said = f"{source.changed_documents:,} of {source.documents:,} sampled documents of {name}"
                found.append(Notice("bad", f"{said} come back changed from encoding and decoding."))
        if fit.unreachable:
            found.append(Notice("open", f"{fit.unreachable:,} tokens can never be reached: {GROUPS['unreachable']}."))
        if fit.unused_in_sample > UNUSED * fit.learned_tokens:
            share = percent(fit.unused_in_sample / max(1, fit.learned_tokens))
            found.append(
                Notice("open", f"{share} of the learned tokens ({fit.unused_in_sample:,}) occur nowhere in the sample.")
            )
        return found


def tokenizer_card(folder: Path) -> TokenizerCard:
    """The fit of the tokenizer sealed in a folder."""
    tokenizer = opened(Tokenizer, folder)
    return TokenizerCard(tokenizer, told(Fit, tokenizer, FILE))


def tokenizer_screen(card: TokenizerCard) -> RenderableType:
    """The fit by source, and the tokens a model hardly learns."""
    fit = card.fit
    title = f"{fit.vocab_size:,} tokens, {fit.learned_tokens:,} learned, {card.bytes_per_token:.2f} bytes a token"
    table = columns("source", "bytes a token", "of the reference", "tokens a word", "sample", words=1)
    for name, source in fit.sources.items():
        other = source.reference_bytes_per_token
        reference = "none" if other is None else f"{other:.2f}"
        sizes = (f"{source.tokens_per_word:.2f}", size(source.bytes))
        table.add_row(one_line(name), f"{source.bytes_per_token:.2f}", reference, *sizes)
    groups = columns("hardly learned", "tokens", words=1)
    groups.add_column("for example", overflow="fold")
    for name, (_, number, some) in card.groups.items():
        examples = "  ".join(one_line(token) for token in some[:SHOWN_TOKENS])
        groups.add_row(name.replace("_", " "), f"{number:,}", Text(examples, style="dim"))
    notices = [Text(f"• {one_line(notice.text, 400)}", style="yellow") for notice in card.notices]
    return Group(Text(title, style="bold"), Text(), table, Text(), groups, *([Text(), *notices] if notices else []))
