"""The scores of the live benchmark of events of the grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from grid_event import NAME, config_of
from grid_event_scores import Asked, Second, in_band_s, island_row, row_of, seconds_of, targets_of
from steppe.config import load_config

EVENT = Asked("e", 0.0, 40.0, 220.0, 235.0, 100.0, 70.0, "complies")


def drawn(watts: Callable[[int], float]) -> list[Second]:
    return [(float(at_s), watts(at_s)) for at_s in range(1, 300)]


def kept(at_s: int) -> float:
    return 70.0 if 40 < at_s <= 220 else 99.0


def test_samples_become_the_means_of_whole_seconds() -> None:
    samples = [(10.0 + 0.25 * n, 50.0 if n <= 4 else 90.0) for n in range(9)]
    assert seconds_of(samples) == [(11.0, 50.0), (12.0, 90.0)]
    assert seconds_of([]) == []


def test_an_event_that_is_kept_meets_every_target() -> None:
    row = row_of(EVENT, drawn(kept))
    assert (row["in_band_s"], row["hold_error"], row["hold_mae"]) == (0.0, 0.0, 0.0)
    assert row["rebound"] == pytest.approx(-0.01)
    island = island_row(Asked("i", 0.0, 250.0, 270.0, 270.0, 100.0, 0.0, ""), drawn(asleep), 30.0)
    assert all(target["met"] for target in targets_of([row], island, 0))


def asleep(at_s: int) -> float:
    return 30.0 if 253 < at_s <= 274 else 99.0


def test_the_time_to_the_band_ends_with_the_last_second_above_it() -> None:
    seconds = drawn(lambda at_s: 80.0 if at_s in (41, 42, 46) else kept(at_s))
    row = row_of(EVENT, seconds)
    assert row["in_band_s"] == 6.0
    assert row["worst_second"] == pytest.approx(1 / 7)


def test_without_notice_the_first_seconds_are_not_the_worst() -> None:
    seconds = drawn(lambda at_s: 80.0 if 40 < at_s <= 46 else kept(at_s))
    at_once = Asked("e", 40.0, 40.0, 220.0, 235.0, 100.0, 70.0, "complies")
    row = row_of(at_once, seconds)
    assert (row["in_band_s"], row["worst_second"]) == (6.0, 0.0)


def test_a_draw_that_is_never_in_band_is_infinitely_late() -> None:
    seconds = drawn(lambda at_s: 80.0)
    assert math.isinf(in_band_s(EVENT, [s for s in seconds if 41 <= s[0] <= 220]))


def test_an_island_has_the_time_to_sleep_and_to_come_back() -> None:
    island = Asked("i", 0.0, 250.0, 270.0, 270.0, 100.0, 0.0, "cannot")
    row = island_row(island, drawn(asleep), 30.0)
    assert (row["asleep_after_s"], row["back_after_s"]) == (3.0, 5.0)
    assert row["delivered_of_sheddable"] == 1.0


def test_the_configuration_is_one_that_can_run(tmp_path: Path) -> None:
    config = load_config(config_of(tmp_path, 8123))
    assert config.model.served_name == NAME
    assert config.grid is not None
