"""A batch teaches what its rows say: every supervised id once, and each conversation as if it were alone."""

from typing import NamedTuple

import pytest

from lifecycle.errors import ContractError
from lifecycle.training import conversations, first_batch


class Taught(NamedTuple):
    ids: list[int]
    assistant_mask: list[int]


ROWS = [Taught([1, 5, 6, 7, 2], [0, 0, 0, 1, 1]), Taught([1, 8, 9, 2], [0, 0, 1, 1])]


def laid_out(rows):
    return conversations.padded(rows, pad_id=2)  # the padding is the stop token: lengths tell them apart


def alone(inputs):
    """A loss that knows nothing of other conversations: a tenth of every label."""
    labels = inputs["labels"]
    return float(labels[labels != conversations.IGNORED].sum()) / 10


def test_what_is_laid_out_as_it_should_be_passes():
    first_batch.check(ROWS, laid_out, alone, exact=True)


def test_labels_beside_the_mask_are_refused_with_their_number():
    wider = [Taught(row.ids, [0, 1, *row.assistant_mask[2:]]) for row in ROWS]
    with pytest.raises(
        ContractError, match=r"the loss on 4 supervised tokens of the first 2 conversations, .* on 6 of 10"
    ):
        first_batch.labels_are_the_supervised_ids(ROWS, laid_out(wider))


def test_labels_of_other_ids_are_refused_though_they_are_as_many():
    inputs = laid_out(ROWS)
    inputs["labels"][0, 3], inputs["labels"][0, 4] = 2, 7  # the same two labels, in the other order
    with pytest.raises(ContractError, match="each its own label"):
        first_batch.labels_are_the_supervised_ids(ROWS, inputs)


@pytest.mark.parametrize("together", [2.0, 1.9999, float("nan")])
def test_a_loss_together_that_is_not_the_sum_of_the_losses_alone_is_refused(together):
    def loss(inputs):
        return together if len(inputs["input_ids"]) > 1 else 1.0

    if together == 2.0:
        return first_batch.check(ROWS, laid_out, loss, exact=True)
    with pytest.raises(ContractError, match="they see each other"):
        first_batch.check(ROWS, laid_out, loss, exact=True)
    return None
