"""The Chinchilla law against the paper's own tables, by hand."""

import math

import pytest

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.compute import (
    APPROACH_1,
    APPROACH_2,
    APPROACH_3,
    APPROACHES,
    REFIT,
    flops_of_hours,
    flops_of_run,
    hours_of_flops,
    judge,
)

# Hoffmann et al. 2022: parameters, FLOPs and tokens of table 3 (approach 1) and of table A3 (approaches 2 and 3).
TABLE_3 = [(400e6, 1.92e19, 8.0e9), (1e9, 1.21e20, 20.2e9), (67e9, 5.76e23, 1.5e12), (1e12, 1.27e26, 21.2e12)]
TABLE_A3_2 = [(400e6, 1.84e19, 7.7e9), (1e9, 1.20e20, 20.0e9), (67e9, 6.88e23, 1.7e12), (1e12, 1.59e26, 26.5e12)]
TABLE_A3_3 = [(400e6, 2.21e19, 9.2e9), (1e9, 1.62e20, 27.1e9), (67e9, 1.71e24, 4.1e12), (1e12, 5.65e26, 94.1e12)]


@pytest.mark.parametrize(
    ("approach", "table", "within"),
    [(APPROACH_1, TABLE_3, 0.05), (APPROACH_2, TABLE_A3_2, 0.05), (APPROACH_3, TABLE_A3_3, 0.08)],
)
def test_the_rows_of_the_paper_come_out(approach, table, within):
    for parameters, flops, tokens in table:
        best = approach.optimum(flops)
        assert best.parameters == pytest.approx(parameters, rel=within)
        assert best.tokens == pytest.approx(tokens, rel=within + 0.03)  # table tokens have two digits


def test_the_optimum_of_the_law_is_closed_form_4_and_no_neighbour_is_better():
    """G = (0.3392 * 406.4 / (0.2849 * 410.7))^(1 / 0.6241) = 1.300; N = 1.300 * (1e21 / 6)^(0.2849 / 0.6241)."""
    best = APPROACH_3.optimum(1e21)
    assert best.parameters == pytest.approx(1.3003 * (1e21 / 6) ** 0.45650, rel=1e-3)
    assert 6 * best.parameters * best.tokens == pytest.approx(1e21)
    for factor in (0.9, 1.1):
        assert REFIT.loss(*REFIT.optimum(1e21)) < REFIT.loss(
            REFIT.optimum(1e21).parameters * factor, REFIT.optimum(1e21).tokens / factor
        )


def test_fitted_again_the_third_approach_agrees_with_the_first_two():
    sizes = {approach.name: approach.optimum(5.76e23).parameters for approach in APPROACHES}
    first, second, third, again = sizes.values()
    assert third < 0.65 * first  # as published, 40 billion for Gopher's compute, of 67
    assert again == pytest.approx(math.sqrt(first * second), rel=0.15)


def test_chinchilla_is_where_it_should_be_and_gopher_is_too_large():
    assert judge(70e9, 1.4e12).warnings == ()
    warnings = judge(280e9, 300e9).warnings
    assert "large for its compute: 1.1 tokens a parameter" in warnings[0]
    assert "small for its compute" in judge(124e6, 300e9).warnings[0]


def test_the_share_of_compute_that_would_do_is_that_of_the_law():
    said = judge(280e9, 300e9)
    flops = 6 * 280e9 * 300e9
    assert REFIT.loss(*REFIT.optimum(said.needed_share * flops)) == pytest.approx(REFIT.loss(280e9, 300e9), abs=1e-6)
    assert said.excess_loss > 0


def test_hours_and_operations_are_inverse():
    flops = flops_of_hours(64, peak_flops=989e12, mfu=0.45)
    assert flops == pytest.approx(64 * 3600 * 989e12 * 0.45)
    assert hours_of_flops(flops, peak_flops=989e12, mfu=0.45) == pytest.approx(64)


def test_operations_of_a_run_by_hand():
    model = ModelConfig(hidden_size=8, layers=2, heads=2, kv_heads=1, intermediate_size=16)
    per_token = 6 * model.parameters(10) + 12 * 2 * 8 * 32
    assert flops_of_run(model, vocab_size=10, max_seq_len=32, tokens=100) == 100 * per_token
