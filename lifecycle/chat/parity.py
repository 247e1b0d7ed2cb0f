"""What must hold for every rendered conversation before a step is taken on it. Each check names the row it refuses."""

from collections.abc import Sequence

from lifecycle.chat.render import Rendered, Renderer
from lifecycle.chat.structure import ASSISTANT, Messages
from lifecycle.errors import ContractError


def check(renderer: Renderer, messages: Messages, rendered: Rendered, *, row: str) -> None:
    """Every law of this file; ContractError names `row` and shows the tokens it is about."""
    some_but_not_all_is_supervised(renderer, rendered, row=row)
    prompts = prefixes_agree(renderer, messages, rendered, row=row)
    only_answers_are_supervised(renderer, prompts, rendered, row=row)
    every_answer_is_taught_to_stop(renderer, messages, rendered, row=row)
    text_survives(renderer, messages, rendered, row=row)


def some_but_not_all_is_supervised(renderer: Renderer, rendered: Rendered, *, row: str) -> None:
    """The loss covers at least one token, and never the whole row: a prompt is not something to learn to say."""
    covered = sum(rendered.assistant_mask)
    if not 0 < covered < len(rendered.ids):
        raise ContractError(
            f"row {row}: expected some tokens in the loss and some not, found {covered} of {len(rendered.ids)} in it: "
            f"{_shown(renderer, rendered)}. Give the conversation a user turn and an assistant turn."
        )


def prefixes_agree(renderer: Renderer, messages: Messages, rendered: Rendered, *, row: str) -> list[int]:
    """The length of the prompt before each answer, which opens the row: what the model sees when it generates.

    A prompt that is rendered on its own has to give the ids that stood before the answer when the model was trained.
    """
    lengths = []
    for at, message in enumerate(messages):
        if message["role"] != ASSISTANT:
            continue
        prompt = renderer.render(messages[:at], generation_prompt=True).ids
        if rendered.ids[: len(prompt)] != prompt:
            raise ContractError(
                f"row {row}: expected the prompt before message {at} to open the whole conversation, found other ids: "
                f"{prompt} against {rendered.ids[: len(prompt)]}. Render both with lifecycle.chat.render."
            )
        lengths.append(len(prompt))
    return lengths


def only_answers_are_supervised(renderer: Renderer, prompts: Sequence[int], rendered: Rendered, *, row: str) -> None:
    """The mask is exactly: after the prompt of each answer, up to and with the stop token that follows."""
    expected = [0] * len(rendered.ids)
    for begin in prompts:
        stops = (at for at in range(begin, len(rendered.ids)) if rendered.ids[at] == renderer.protocol.stop_id)
        end = next(stops, len(rendered.ids) - 1) + 1
        expected[begin:end] = [1] * (end - begin)
    if rendered.assistant_mask != expected:
        pairs = zip(expected, rendered.assistant_mask, strict=False)
        first = next(
            (at for at, (want, found) in enumerate(pairs) if want != found), min(len(expected), len(rendered.ids))
        )
        raise ContractError(
            f"row {row}: expected the loss on the assistant's answer and its {renderer.structure.stop} only; the mask "
            f"differs from token {first} on: {_shown(renderer, rendered)}. Render it with lifecycle.chat.render."
        )


def every_answer_is_taught_to_stop(renderer: Renderer, messages: Messages, rendered: Rendered, *, row: str) -> None:
    """Each assistant turn ends with a supervised stop token; without it the model never learns to stop."""
    stop = renderer.protocol.stop_id
    answers = sum(message["role"] == ASSISTANT for message in messages)
    stops = sum(mask for token, mask in zip(rendered.ids, rendered.assistant_mask, strict=True) if token == stop)
    if stops != answers:
        raise ContractError(
            f"row {row}: expected a supervised {renderer.structure.stop} for each of {answers} answers, found {stops}: "
            f"{_shown(renderer, rendered)}. A conversation must not be cut in its answer."
        )


def text_survives(renderer: Renderer, messages: Messages, rendered: Rendered, *, row: str) -> None:
    """Decoding the row gives back every character: nothing was normalised away, and no typed token became special."""
    decoded = renderer.tokenizer.decode(rendered.ids, skip_special_tokens=False)
    expected = renderer.structure.text(messages)
    if decoded != expected:
        raise ContractError(
            f"row {row}: expected {expected!r} back from its ids, found {decoded!r}. The tokenizer loses text; "
            "train it byte level and without a normaliser."
        )


def _shown(renderer: Renderer, rendered: Rendered) -> str:
    """The row for a reader, supervised tokens in brackets, at most 60 of them."""
    pairs = list(zip(rendered.ids, rendered.assistant_mask, strict=False))[-60:]
    return "".join(f"[{text}]" if mask else text for text, mask in ((_text(renderer, t), m) for t, m in pairs))


def _text(renderer: Renderer, token: int) -> str:
    return repr(renderer.tokenizer.decode([token], skip_special_tokens=False))[1:-1]
