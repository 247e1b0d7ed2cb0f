"""What must hold for every rendered conversation before a step is taken on it. Each check names the row it refuses."""

from collections.abc import Iterator, Mapping, Sequence

import tokenizers

from lifecycle.chat.protocol import END, ROLE_TOKENS
from lifecycle.chat.render import Rendered, render
from lifecycle.errors import ContractError

Messages = Sequence[Mapping[str, str]]


def check(tokenizer: tokenizers.Tokenizer, messages: Messages, rendered: Rendered, *, row: str) -> None:
    """Every law of this file; ContractError names `row` and shows the tokens it is about."""
    some_but_not_all_is_supervised(tokenizer, rendered, row=row)
    only_answers_are_supervised(tokenizer, rendered, row=row)
    every_answer_is_taught_to_stop(tokenizer, rendered, row=row)
    text_survives(tokenizer, messages, rendered, row=row)
    prefixes_agree(tokenizer, messages, rendered, row=row)


def some_but_not_all_is_supervised(tokenizer: tokenizers.Tokenizer, rendered: Rendered, *, row: str) -> None:
    """The loss covers at least one token, and never the whole row: a prompt is not something to learn to say."""
    covered = sum(rendered.assistant_mask)
    if not 0 < covered < len(rendered.ids):
        raise ContractError(
            f"row {row}: expected some tokens in the loss and some not, found {covered} of {len(rendered.ids)} in it: "
            f"{_shown(tokenizer, rendered)}. Give the conversation a user turn and an assistant turn."
        )


def only_answers_are_supervised(tokenizer: tokenizers.Tokenizer, rendered: Rendered, *, row: str) -> None:
    """The mask is exactly: after <|assistant|>, up to and with the <|end|> that follows. Read from the ids alone."""
    expected = list(_answers(tokenizer, rendered.ids))
    if rendered.assistant_mask != expected:
        pairs = zip(expected, rendered.assistant_mask, strict=False)
        first = next(
            (at for at, (want, found) in enumerate(pairs) if want != found), min(len(expected), len(rendered.ids))
        )
        raise ContractError(
            f"row {row}: expected the loss on the assistant's answer and its {END} only; the mask differs from token "
            f"{first} on: {_shown(tokenizer, rendered)}. Render it with lifecycle.chat.render."
        )


def every_answer_is_taught_to_stop(tokenizer: tokenizers.Tokenizer, rendered: Rendered, *, row: str) -> None:
    """Each assistant turn ends with a supervised stop token; without it the model never learns to stop."""
    opens, stop = tokenizer.token_to_id(ROLE_TOKENS["assistant"]), tokenizer.token_to_id(END)
    answers = sum(token == opens for token in rendered.ids)
    stops = sum(mask for token, mask in zip(rendered.ids, rendered.assistant_mask, strict=True) if token == stop)
    if stops != answers:
        raise ContractError(
            f"row {row}: expected a supervised {END} for each of {answers} answers, found {stops}: "
            f"{_shown(tokenizer, rendered)}. A conversation must not be cut in its answer."
        )


def text_survives(tokenizer: tokenizers.Tokenizer, messages: Messages, rendered: Rendered, *, row: str) -> None:
    """Decoding the row gives back every character: nothing was normalised away, and no typed token became special."""
    decoded = tokenizer.decode(rendered.ids[1:], skip_special_tokens=False)
    expected = "".join(f"{ROLE_TOKENS[message['role']]}{message['content']}{END}" for message in messages)
    if decoded != expected:
        raise ContractError(
            f"row {row}: expected {expected!r} back from its ids, found {decoded!r}. The tokenizer loses text; "
            "train it byte level and without a normaliser."
        )


def prefixes_agree(tokenizer: tokenizers.Tokenizer, messages: Messages, rendered: Rendered, *, row: str) -> None:
    """What the model sees before an answer when it generates is what it saw before that answer when it was trained."""
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render(tokenizer, messages[:at], generation_prompt=True).ids
        if rendered.ids[: len(prompt)] != prompt:
            raise ContractError(
                f"row {row}: expected the prompt before message {at} to open the whole conversation, found other ids: "
                f"{prompt} against {rendered.ids[: len(prompt)]}. Render both with lifecycle.chat.render."
            )


def _answers(tokenizer: tokenizers.Tokenizer, ids: Sequence[int]) -> Iterator[int]:
    """(T,): 1 for the tokens of assistant turns. Content holds no special id, so the ids alone tell."""
    opens, closes = tokenizer.token_to_id(ROLE_TOKENS["assistant"]), tokenizer.token_to_id(END)
    inside = False
    for token in ids:
        yield int(inside)
        inside = token == opens or (inside and token != closes)


def _shown(tokenizer: tokenizers.Tokenizer, rendered: Rendered) -> str:
    """The row for a reader, supervised tokens in brackets, at most 60 of them."""
    pairs = list(zip(rendered.ids, rendered.assistant_mask, strict=False))[-60:]
    return "".join(f"[{text}]" if mask else text for text, mask in ((_text(tokenizer, t), m) for t, m in pairs))


def _text(tokenizer: tokenizers.Tokenizer, token: int) -> str:
    return repr(tokenizer.decode([token], skip_special_tokens=False))[1:-1]
