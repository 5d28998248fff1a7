from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steppe.measure.page.svg import Axis, linear_axis, log_axis, round_ticks, tick_label


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_ticks_are_few_and_lie_inside(low: float, span: float) -> None:
    high = low + span
    ticks = round_ticks(low, high)
    assert 1 <= len(ticks) <= 8
    assert all(low - 1e-6 * span <= tick <= high + 1e-6 * span for tick in ticks)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_an_axis_spans_its_values_with_room(values: list[float]) -> None:
    axis = linear_axis("x", values)
    assert axis.low <= min(values) <= max(values) <= axis.high
    assert axis.low >= 0
    assert axis.high > axis.low


def test_equal_factors_are_equal_distances_on_a_logarithmic_axis() -> None:
    axis = Axis("batch limit", 1, 16, is_log=True)
    assert [axis.share(x) for x in (1, 4, 16)] == pytest.approx([0, 0.5, 1])


@example([4.0])
@given(st.lists(st.floats(1e-3, 1e3), min_size=1))
def test_an_axis_by_factors_spans_its_values_and_has_a_tick(values: list[float]) -> None:
    axis = log_axis("x", values)
    assert axis.low < min(values) <= max(values) < axis.high
    assert all(axis.low <= tick <= axis.high for tick in axis.marks)
    if max(values) > 3 * min(values):
        assert len(axis.marks) >= 2


@pytest.mark.parametrize(("value", "text"), [(2040, "2,040"), (0.25, "0.25"), (40.0, "40")])
def test_tick_labels_have_no_needless_digits(value: float, text: str) -> None:
    assert tick_label(value) == text
