from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.measure.sweep.grid import SweepGrid, left_to_do, powers_of_two, spread_clocks
from steppe.measure.sweep.result import Phase

GRID = SweepGrid((1000, 1800), (1, 4, 8), ((144, 26),))


def test_the_fastest_point_comes_first_and_prefill_and_decode_alone_come_last() -> None:
    settings = GRID.settings
    assert len(settings) == len({setting.key for setting in settings}) == 2 * 3 + 2 * 3
    assert (settings[0].clock_mhz, settings[0].batch_limit) == (1800, 8)
    prefill = [s for s in settings if s.phase is Phase.PREFILL]
    decode = [s for s in settings if s.phase is Phase.DECODE]
    assert {s.output_tokens for s in prefill} == {1}
    assert {s.prompt_tokens for s in decode} == {1}
    assert {s.batch_limit for s in prefill} == {1, 8}
    assert {s.batch_limit for s in decode} == {8}


def test_prefill_and_decode_alone_may_be_measured_at_some_clocks_only() -> None:
    settings = SweepGrid((1000, 1400, 1800), (4,), ((144, 26),), apart_clocks_mhz=(1400,)).settings
    apart = [s for s in settings if s.phase is not Phase.MIXED]
    assert [(s.phase, s.clock_mhz) for s in apart] == [(Phase.PREFILL, 1400), (Phase.DECODE, 1400)]


def test_outputs_of_decode_alone_fit_the_model() -> None:
    grid = SweepGrid((), (8,), ((144, 2000),), longest_tokens=512)
    decode = [s for s in grid.settings if s.phase is Phase.DECODE]
    assert decode[0].output_tokens * 2 <= 512


def test_without_a_clock_knob_every_point_leaves_the_clock_alone() -> None:
    grid = SweepGrid((), (1, 4), ((144, 26), (500, 26)), apart=False)
    assert {s.clock_mhz for s in grid.settings} == {0}
    assert len(grid.settings) == 4


def test_measured_points_are_left_out() -> None:
    done = {GRID.settings[0].key, GRID.settings[3].key}
    left = left_to_do(GRID.settings, done)
    assert len(left) == len(GRID.settings) - 2
    assert not done & {setting.key for setting in left}


@given(
    st.lists(st.integers(100, 3000), unique=True, max_size=60).map(sorted),
    st.integers(2, 12),
    st.floats(0, 1),
)
def test_clocks_are_spread_from_the_lowest_allowed_to_the_highest(
    clocks: list[int], count: int, share: float
) -> None:
    clocks_found = spread_clocks(clocks, count, share)
    allowed = [clock for clock in clocks if clock >= share * clocks[-1]]
    assert len(clocks_found) == min(count, len(allowed))
    assert list(clocks_found) == sorted(set(clocks_found))
    assert set(clocks_found) <= set(allowed)
    if allowed:
        assert (clocks_found[0], clocks_found[-1]) == (allowed[0], allowed[-1])


@pytest.mark.parametrize(
    ("largest", "powers"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_powers_of_two_end_with_the_largest(largest: int, powers: tuple[int, ...]) -> None:
    assert powers_of_two(largest) == powers
