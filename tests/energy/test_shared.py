from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.energy.shared import SharedHistory, SharedUse
from steppe.energy.window import EnergyWindow, Quality


@dataclass
class Board:
    """A GPU that draws 200 W."""

    covered_until_s: float = 1000.0

    def window(self, start_s: float, end_s: float) -> EnergyWindow:
        return EnergyWindow(start_s, end_s, 200.0 * (end_s - start_s), 1.0, Quality.COUNTER)


def test_a_gpu_that_is_ours_alone_is_charged_whole() -> None:
    history = SharedHistory(Board())
    assert history.window(0.0, 2.0) == Board().window(0.0, 2.0)
    assert history.covered_until_s == 1000.0


def test_from_the_time_of_sharing_on_a_part_is_ours_and_an_estimate() -> None:
    history = SharedHistory(Board())
    history.set_share(10.0, 0.75)
    window = history.window(9.0, 11.0)
    assert (window.energy_j, window.neighbour_j, window.whole_j) == (350.0, 50.0, 400.0)
    assert (window.quality, window.mean_w) == (Quality.ESTIMATED, 200.0)
    assert window.error_j == 51.0
    assert history.window(8.0, 10.0).quality is Quality.COUNTER
    history.set_share(20.0, 1.0)
    assert history.window(20.0, 21.0) == Board().window(20.0, 21.0)


def test_an_emulated_gpu_stays_emulated() -> None:
    history = SharedHistory(Board(), is_emulated=True)
    history.set_share(0.0, 0.5)
    assert history.window(1.0, 2.0).quality is Quality.COUNTER  # as the board says


@given(
    st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 1.0)), max_size=6),
    st.lists(st.floats(0.0, 120.0), min_size=2, max_size=6),
)
def test_our_part_and_theirs_make_the_whole_and_adjacent_windows_add_up(
    shares: list[tuple[float, float]], ends_s: list[float]
) -> None:
    history, edges_s = SharedHistory(Board()), sorted(ends_s)
    for at_s, share in sorted(shares):
        history.set_share(at_s, share)
    windows = [history.window(begin_s, end_s) for begin_s, end_s in pairwise(edges_s)]
    whole = history.window(edges_s[0], edges_s[-1])
    assert sum(w.energy_j for w in windows) == pytest.approx(whole.energy_j, abs=1e-6)
    assert whole.whole_j == pytest.approx(200.0 * (edges_s[-1] - edges_s[0]), abs=1e-6)
    assert all(window.energy_j >= 0 and window.neighbour_j >= -1e-9 for window in windows)


@pytest.mark.parametrize(
    ("usage", "share"),
    [
        (SharedUse(300.0, 100.0, 2, 0.5, 0.5), 0.5),
        (SharedUse(300.0, 100.0, 2, 1.0, 0.0), (50 + 200) / 300),
        (SharedUse(300.0, 100.0, 2, 0.0, 0.3), 50 / 300),
        (SharedUse(300.0, 100.0, 4, 0.9, 0.3), (25 + 150) / 300),
        (SharedUse(100.0, 120.0, 2, 0.0, 0.0), 0.5),
        (SharedUse(0.0, 0.0, 2, 0.0, 0.0), 0.5),
    ],
)
def test_the_idle_part_goes_by_reserved_share_and_the_active_part_by_busy_time(
    usage: SharedUse, share: float
) -> None:
    assert usage.own_share == pytest.approx(share)
