"""What `auto` means is a function of the device and the length of a row, and of nothing that changes between runs."""

import pytest

from lifecycle.model.attention import EAGER_BELOW, implementation


@pytest.mark.parametrize(
    ("device", "tokens", "expected"),
    [("cpu", 128, "eager"), ("cpu", EAGER_BELOW, "sdpa"), ("cuda", 128, "sdpa"), ("cuda", 4096, "sdpa")],
)
def test_eager_is_for_short_rows_on_cpus(device, tokens, expected):
    assert implementation("auto", device=device, tokens=tokens) == expected


def test_a_name_means_itself():
    assert implementation("flash_attention_2", device="cpu", tokens=8) == "flash_attention_2"
