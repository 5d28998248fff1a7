from __future__ import annotations

from dataclasses import replace

import pytest

from steppe.errors import UsageError
from steppe.fleet.driver.supported_clocks import snap_to_supported_clocks, without_clock_limits
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

POINTS = tuple(
    OperatingPoint(clock_mhz, batch, 0.1 * clock_mhz + batch, 0.1 * clock_mhz + 2 * batch)
    for clock_mhz, batch in ((900, 4), (900, 8), (1500, 4), (1500, 8))
)


def test_without_clock_limits_only_the_highest_clock_and_its_idle_draw_are_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frontier = Frontier.of(POINTS, asleep_w=20.0, idle_w=25.0, source="measured")
    found = without_clock_limits(frontier, 31.0)
    assert [(p.clock_mhz, p.batch_limit) for p in found.points] == [(1500, 4), (1500, 8)]
    assert (found.asleep_w, found.idle_w, found.source) == (31.0, 31.0, "measured")
    assert caplog.messages == [
        "clocks cannot be limited: 2 of 4 operating points are left, those at 1500 MHz"
    ]


def test_a_frontier_of_one_clock_is_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    frontier = Frontier.of(POINTS[2:], asleep_w=40.0, idle_w=40.0, source="measured")
    assert without_clock_limits(frontier, 31.0) == frontier
    assert caplog.messages == []


def test_points_that_only_lower_clocks_beat_come_back_without_these() -> None:
    points = (
        OperatingPoint(900, 8, 85.0, 88.0, tpot_s=0.09),
        OperatingPoint(1500, 4, 80.0, 90.0, tpot_s=0.05),
        OperatingPoint(1500, 8, 160.0, 150.0, tpot_s=0.05),
    )
    frontier = Frontier.of(points, asleep_w=20.0, idle_w=25.0, source="measured")
    found = without_clock_limits(frontier, 0.0)
    assert [(p.clock_mhz, p.batch_limit) for p in found.points] == [(1500, 4), (1500, 8)]
    assert found.quicker == ()


def test_points_move_to_supported_clocks(caplog: pytest.LogCaptureFixture) -> None:
    frontier = Frontier.of(POINTS, asleep_w=20.0, idle_w=25.0, source="measured")
    assert (
        snap_to_supported_clocks(frontier, (210, 900, 1500))
        == snap_to_supported_clocks(frontier, ())
        == frontier
    )
    assert caplog.messages == []
    found = snap_to_supported_clocks(frontier, (210, 900, 1485, 1515))
    assert [(p.clock_mhz, p.draw_w) for p in found.points] == [
        (900, 98.0),
        (900, 106.0),
        (1485, 158.0),
        (1485, 166.0),
    ]
    assert caplog.messages == [
        "frontier: asked for clocks of [1500] MHz, found none such; next lower taken"
    ]


def test_a_point_without_a_clock_limit_is_one_at_the_highest_clock(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frontier = Frontier.of([replace(p, clock_mhz=0) for p in POINTS[2:]], 20.0, 25.0, "measured")
    assert [p.clock_mhz for p in snap_to_supported_clocks(frontier, (210, 1500)).points] == [
        1500,
        1500,
    ]
    assert caplog.messages == []


def test_of_points_that_move_to_one_clock_the_largest_draw_stays() -> None:
    frontier = Frontier.of(POINTS, asleep_w=20.0, idle_w=25.0, source="measured")
    found = snap_to_supported_clocks(frontier, (800,))
    assert [(p.clock_mhz, p.batch_limit, p.draw_w) for p in found.points] == [
        (800, 4, 158.0),
        (800, 8, 166.0),
    ]


def test_points_below_the_lowest_supported_clock_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frontier = Frontier.of(POINTS, asleep_w=20.0, idle_w=25.0, source="measured")
    assert snap_to_supported_clocks(frontier, (1000, 1500)).points == frontier.points[2:]
    assert caplog.messages == [
        "frontier: 2 of 4 operating points are left out, those below 1000 MHz, the lowest clock "
        "that all GPUs support"
    ]


def test_a_frontier_below_the_lowest_supported_clock_is_refused() -> None:
    frontier = Frontier.of(POINTS, asleep_w=20.0, idle_w=25.0, source="measured")
    with pytest.raises(UsageError) as caught:
        snap_to_supported_clocks(frontier, (1600, 1700))
    assert str(caught.value) == (
        "frontier: asked for clocks of 1500 MHz at most, found GPUs with 1600 MHz at least: "
        "measure a frontier on these"
    )
