from hypothesis import given
from hypothesis import strategies as st

from lifecycle.evaluation.prefixes import in_batches

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=60)


@given(PROMPTS, st.integers(1, 9))
def test_every_prompt_is_in_one_batch_and_no_batch_is_too_large(prompts, size):
    batches = in_batches(prompts, size)
    assert sorted(number for batch in batches for number in batch) == list(range(len(prompts)))
    assert all(0 < len(batch) <= size for batch in batches)
    assert all(
        [len(prompts[number]) for number in batch] == sorted((len(prompts[n]) for n in batch), reverse=True)
        for batch in batches
    )


def test_prompts_that_begin_alike_share_batches():
    prompts = [[1, 2, 3, n] if n % 2 else [1, 9, n] for n in range(8)]
    assert [sorted({tuple(prompts[n][:2]) for n in batch}) for batch in in_batches(prompts, 4)] == [[(1, 2)], [(1, 9)]]
