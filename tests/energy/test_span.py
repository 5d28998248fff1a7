from __future__ import annotations

import pytest

from steppe.energy.span import span_error_j
from steppe.energy.window import Quality

COUNTER, ESTIMATED = Quality.COUNTER, Quality.ESTIMATED


@pytest.mark.parametrize(
    ("windows", "bound_j"),
    [
        ([], 0.0),
        ([(3.0, COUNTER)], 3.0),
        ([(3.0, COUNTER), (2.0, COUNTER)], 5.0),
        ([(3.0, COUNTER), (9.0, COUNTER), (2.0, COUNTER)], 5.0),
        ([(3.0, Quality.EMULATED)] * 9, 6.0),
    ],
)
def test_inner_ends_of_a_counter_s_windows_cancel(
    windows: list[tuple[float, str]], bound_j: float
) -> None:
    assert span_error_j(windows) == bound_j


def test_a_hole_adds_its_error_and_ends_a_row() -> None:
    row = [(1.0, COUNTER)] * 5
    assert span_error_j([*row, (50.0, ESTIMATED), (40.0, ESTIMATED), *row]) == 2 + 90 + 2


def test_what_sampling_misses_adds_up_as_in_one_long_window() -> None:
    assert span_error_j([(15.0, Quality.INTEGRATED)] * 60) == 900.0
