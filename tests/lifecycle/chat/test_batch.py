"""Many conversations rendered at once: what one by one gives, whatever the protocol puts between turns."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.chat.batch import render_batch
from lifecycle.chat.render import Renderer
from lifecycle.chat.structure import Unrenderable

CONTENTS = st.lists(
    st.sampled_from(["ab", "naïve 日本 🎉", "a<|end|>b", " x", "\nthe record", "of a package"]), min_size=2
)


def encode_with(renderer):
    def encode(texts):
        renderer.tokenizer.encode_special_tokens = True
        found = [one.ids for one in renderer.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        renderer.tokenizer.encode_special_tokens = False
        return np.array([i for ids in found for i in ids], np.uint32), np.array([len(ids) for ids in found], np.int64)

    return encode


def turns(contents, system=False):
    roles = (["system"] if system else []) + ["user", "assistant"] * len(contents)
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]


def headed(renderer) -> Renderer:
    """A protocol as ChatML's: a line break behind each role, and behind each stop."""
    joins = {
        left: {right: text.replace("<|end|>", "<|end|>\n") + "\n" * (">" in text[-1:]) for right, text in own.items()}
        for left, own in renderer.structure.joins.items()
    }
    return Renderer(renderer.tokenizer, renderer.structure.model_copy(update={"joins": joins}), renderer.protocol)


def assert_as_one_by_one(renderer, conversations):
    batch = render_batch(renderer, conversations, encode_with(renderer))
    for number, messages in enumerate(conversations):
        begin, end = batch.bounds[number : number + 2]
        if number in batch.refused:
            with pytest.raises(Unrenderable) as refused:
                renderer.render(messages)
            assert (batch.refused[number], begin) == (refused.value.reason, end)
            continue
        ids, mask = renderer.render(messages)
        assert (batch.ids[begin:end].tolist(), batch.mask[begin:end].tolist()) == (ids, mask)
        assert batch.texts[number] == renderer.structure.text(messages)
        learned = [token for token, bit in zip(ids, mask, strict=True) if bit]
        assert batch.learned[number] == renderer.tokenizer.decode(learned, skip_special_tokens=False)
    assert len(batch.ids) == len(batch.mask) == batch.bounds[-1]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(contents=st.lists(CONTENTS, min_size=1, max_size=5), system=st.booleans())
def test_a_batch_holds_what_one_by_one_gives(renderer, contents, system):
    conversations = [turns(own, system) for own in contents]
    assert_as_one_by_one(renderer, conversations)
    assert_as_one_by_one(headed(renderer), conversations)


def test_a_conversation_that_cannot_be_rendered_is_named_and_has_no_ids(renderer):
    foreign = [{"role": "user", "content": "a"}, {"role": "critic", "content": "b"}]
    conversations = [turns(["ab", "xy"]), foreign, turns(["ab", "\nxy"]), turns(["ab", "the"])]
    assert_as_one_by_one(renderer, conversations)
    assert_as_one_by_one(headed(renderer), conversations)
    assert render_batch(renderer, [foreign], encode_with(renderer)).refused == {0: "role_not_in_protocol"}
