from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import DeviceError, ReplicaError
from steppe.measure.sweep.fleet_sweep import (
    SETTLE_S,
    Grid,
    measure_draw_w,
    measure_rest,
    powers_of_two,
    spread_clocks,
    sweep,
)

GRID = Grid((600, 1200, 1800), (1, 4, 16), window_s=2.0)
NAMES = ("replica-1", "replica-2")


@dataclass(frozen=True)
class FakeTotals:
    time_s: float
    energy_j: float
    output_tokens: int
    prompt_tokens: int
    steps: int


@dataclass
class FakeBench:
    """Replicas in virtual time: 10 steps a second, and watts that follow from the limits."""

    steps_per_s: int = 10
    now_s: float = 0.0
    energy_j: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    points: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    parked: set[str] = field(default_factory=set)
    asked: list[tuple[int | None, int]] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        for name in self.points:
            self.energy_j[name] += self.draw_w(name) * seconds  # type: ignore[assignment]
            self.tokens[name] += round(self.steps_per_s * seconds) * self.points[name][1]

    def draw_w(self, replica: str) -> float:
        clock, batch = self.points[replica]
        return 10.0 if replica in self.parked else 20.0 + (clock or 0) / 100 + batch

    def set_point(self, replica: str, clock_mhz: int | None, batch_limit: int) -> None:
        self.points[replica] = (clock_mhz, batch_limit)
        self.asked.append((clock_mhz, batch_limit))

    def park(self, replica: str, parked: bool) -> None:
        (self.parked.add if parked else self.parked.discard)(replica)

    def reading(self, replica: str) -> FakeTotals:
        steps = round(self.now_s * self.steps_per_s)
        return FakeTotals(self.now_s, self.energy_j[replica], self.tokens[replica], 0, steps)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> FakeBench:
    made = FakeBench()
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


def test_every_point_of_the_grid_is_measured_once(bench: FakeBench) -> None:
    windows = sweep(bench, NAMES, GRID)
    assert sorted((w.clock_mhz, w.batch_limit) for w in windows) == sorted(GRID.points)
    for window in windows:
        draw_w = 20.0 + window.clock_mhz / 100 + window.batch_limit
        assert window.duration_s == pytest.approx(2.0)
        assert window.energy_j == pytest.approx(2.0 * draw_w)
        assert (window.output_tokens, window.steps) == (20 * window.batch_limit, 20)


def test_the_sweep_begins_with_the_fastest_point_and_settles_before_each_window(
    bench: FakeBench,
) -> None:
    sweep(bench, NAMES[:1], GRID)
    assert bench.asked[:2] == [(1800, 16), (1800, 16)]
    assert bench.asked[-1] == (600, 1)
    assert bench.now_s >= 9 * (2.0 + SETTLE_S)


def test_progress_goes_from_none_to_all(bench: FakeBench) -> None:
    told: list[tuple[int, int]] = []
    sweep(bench, NAMES, GRID, lambda done, total: told.append((done, total)))
    assert told == [(done, 5) for done in range(6)]


def test_without_clocks_only_the_batch_limit_is_swept(bench: FakeBench) -> None:
    windows = sweep(bench, NAMES, Grid((), (1, 8), 1.0))
    assert [(w.clock_mhz, w.batch_limit) for w in windows] == [(0, 8), (0, 1)]


def test_a_sweep_without_a_token_is_an_error(bench: FakeBench) -> None:
    bench.steps_per_s = 0
    with pytest.raises(ReplicaError, match="found no output token"):
        sweep(bench, NAMES, GRID)


def test_rest_is_measured_at_the_lowest_clock_and_everybody_wakes_again(bench: FakeBench) -> None:
    rest = measure_rest(bench, NAMES)
    assert rest.idle_w == pytest.approx(21.0)
    assert rest.asleep_w == pytest.approx(10.0)
    assert bench.parked == set()
    assert set(bench.asked) == {(None, 1)}


def test_the_mean_draw_is_that_of_one_replica(bench: FakeBench) -> None:
    for name, batch_limit in zip(NAMES, (4, 16), strict=True):
        bench.set_point(name, 600, batch_limit)
    assert measure_draw_w(bench, NAMES, 3.0) == pytest.approx(36.0)


def test_a_draw_from_meters_that_stand_is_an_error(bench: FakeBench) -> None:
    stands = FakeTotals(5.0, 100.0, 0, 0, 0)
    bench.reading = lambda replica: stands  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="replica-1: asked for 3 s of energy, found no reading"):
        measure_draw_w(bench, NAMES, 3.0)


@settings(deadline=None)
@given(
    st.lists(st.integers(100, 3000), unique=True, max_size=60).map(sorted),
    st.integers(2, 12),
    st.floats(0, 1),
)
def test_clocks_are_spread_from_the_lowest_that_is_worth_it_to_the_highest(
    clocks: list[int], count: int, share: float
) -> None:
    found = spread_clocks(clocks, count, share)
    worth = [clock for clock in clocks if clock >= share * clocks[-1]]
    assert len(found) == min(count, len(worth))
    assert list(found) == sorted(set(found))
    assert set(found) <= set(worth)
    if worth:
        assert (found[0], found[-1]) == (worth[0], worth[-1])


@pytest.mark.parametrize(
    ("largest", "powers"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_powers_of_two_end_with_the_largest(largest: int, powers: tuple[int, ...]) -> None:
    assert powers_of_two(largest) == powers
