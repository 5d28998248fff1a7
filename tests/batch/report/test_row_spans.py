from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.batch.report.jobs import MADE_S, about, row

from steppe.batch.report.row_spans import amount_until, spans_of


def test_the_energy_of_a_row_is_even_over_its_time() -> None:
    spans = spans_of([row(0, 10.0, 20.0, 100.0, wasted_j=20.0)])
    until_j = spans.energy_until_j(MADE_S + np.array([0.0, 10.0, 15.0, 20.0, 99.0]))
    assert list(until_j) == [about(value) for value in (0.0, 0.0, 60.0, 120.0, 120.0)]


def test_time_with_rows_counts_once_however_many_run() -> None:
    spans = spans_of([row(0, 0.0, 10.0, 1.0), row(1, 5.0, 12.0, 1.0), row(2, 20.0, 25.0, 1.0)])
    until_s = spans.busy_until_s(MADE_S + np.array([0.0, 11.0, 15.0, 22.0, 30.0]))
    assert list(until_s) == [about(value) for value in (0.0, 11.0, 12.0, 14.0, 17.0)]


def test_rows_that_never_ran_are_left_out() -> None:
    late = row(1, 0.0, 0.0, 0.0, started_epoch_s=0.0, ended_epoch_s=MADE_S, error_code="expired")
    spans = spans_of([late, row(0, 10.0, 20.0, 5.0)])
    assert len(spans.begun_s) == 1


def test_without_rows_nothing_was_drawn() -> None:
    spans = spans_of([])
    at_s = np.array([0.0, 1.0])
    assert spans.energy_until_j(at_s).sum() == 0.0
    assert spans.busy_until_s(at_s).sum() == 0.0


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 1e4), st.floats(1e-3, 1e3), st.floats(0.0, 1e6, allow_subnormal=False)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_nothing_is_lost_and_nothing_shrinks(spans: list[tuple[float, float, float]]) -> None:
    begun_s, length_s, amounts = np.array(spans).T
    at_s = np.linspace(-1.0, 1.2e4, 50)
    until = amount_until(at_s, begun_s, begun_s + length_s, amounts)
    assert until[-1] == pytest.approx(amounts.sum())
    assert (np.diff(until) >= -1e-6 * (1.0 + amounts.sum())).all()
