from __future__ import annotations

from collections.abc import Callable

import pytest

from steppe.report.records import ShortageTick
from steppe.report.shortages import QUIET_S, ShortageLog

HERE = ShortageTick("demand", 40.0, 0.0, 90.0)
SOON = ShortageTick("demand", 40.0, 60.0, 90.0)
FLOOR = ShortageTick("floor", 5.0, 0.0, None)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """Return a function that notes what is short, a second a tick, and returns the lines."""
    log, now_s = ShortageLog(), 0.0

    def note(*shortages: ShortageTick, seconds: float = 1.0) -> list[str]:
        nonlocal now_s
        caplog.clear()
        until_s = now_s + seconds
        while now_s < until_s:
            now_s += 1.0
            log.note(shortages, now_s)
        return caplog.messages

    return note


def test_nothing_is_said_while_there_is_enough(told: Callable[..., list[str]]) -> None:
    assert told(seconds=200) == []


def test_a_shortage_is_told_when_foreseen_when_it_begins_and_when_it_has_ended(
    told: Callable[..., list[str]],
) -> None:
    assert told(SOON, seconds=30) == [
        "0:01: budget 40.0 W short of the demand at the SLO in 1:00, enough in 1:30"
    ]
    assert told(HERE, seconds=30) == [
        "0:31: budget 40.0 W short of the demand at the SLO, enough in 1:30"
    ]
    assert told(seconds=QUIET_S - 1) == []
    assert told(seconds=QUIET_S) == ["2:00: budget enough again for the demand at the SLO"]


def test_a_shortage_that_wavers_is_one_line(told: Callable[..., list[str]]) -> None:
    assert len(told(HERE)) == 1
    for _ in range(10):
        assert told(seconds=QUIET_S / 2) == []
        assert told(SOON, seconds=QUIET_S / 4) == []
        assert told(HERE, seconds=2) == []


def test_a_foreseen_shortage_that_does_not_come_is_taken_back(
    told: Callable[..., list[str]],
) -> None:
    told(SOON)
    assert told(seconds=QUIET_S) == [
        "1:01: budget no longer expected to fall short of the demand at the SLO"
    ]


def test_the_floor_and_the_demand_are_told_apart(told: Callable[..., list[str]]) -> None:
    assert told(HERE, FLOOR) == [
        "0:01: budget 5.00 W short of the sleeping fleet, no end in the forecast",
        "0:01: budget 40.0 W short of the demand at the SLO, enough in 1:30",
    ]
