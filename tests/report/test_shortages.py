from __future__ import annotations

from collections.abc import Callable

import pytest

from steppe.control.shortage_forecast import Shortage, ShortageForecast
from steppe.report.records import ShortageTick
from steppe.report.shortages import (
    QUIET_S,
    ShortageLog,
    first_shortage,
    shortage_text,
    shortage_ticks,
)

HERE = ShortageTick("demand", 40.0, 0.0, 90.0)
SOON = ShortageTick("demand", 40.0, 60.0, 90.0)
FLOOR = ShortageTick("floor", 5.0, 0.0, None)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """Return a function that notes shortages, a second a tick, and returns the logged lines."""
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


def test_nothing_is_logged_while_there_is_enough(logged: Callable[..., list[str]]) -> None:
    assert logged(seconds=200) == []


def test_a_shortage_is_logged_when_foreseen_when_it_begins_and_when_it_has_ended(
    logged: Callable[..., list[str]],
) -> None:
    assert logged(SOON, seconds=30) == [
        "0:01: budget 40.0 W short of the demand at the SLO in 1:00, enough in 1:30"
    ]
    assert logged(HERE, seconds=30) == [
        "0:31: budget 40.0 W short of the demand at the SLO, enough in 1:30"
    ]
    assert logged(seconds=QUIET_S - 1) == []
    assert logged(seconds=QUIET_S) == ["2:00: budget enough again for the demand at the SLO"]


def test_a_shortage_that_wavers_is_one_line(logged: Callable[..., list[str]]) -> None:
    assert len(logged(HERE)) == 1
    for _ in range(10):
        assert logged(seconds=QUIET_S / 2) == []
        assert logged(SOON, seconds=QUIET_S / 4) == []
        assert logged(HERE, seconds=2) == []


def test_a_foreseen_shortage_that_does_not_come_is_logged_as_such(
    logged: Callable[..., list[str]],
) -> None:
    logged(SOON)
    assert logged(seconds=QUIET_S) == [
        "1:01: budget no longer expected to fall short of the demand at the SLO"
    ]


def test_the_floor_and_the_demand_have_lines_of_their_own(logged: Callable[..., list[str]]) -> None:
    assert logged(HERE, FLOOR) == [
        "0:01: budget 5.00 W short of the sleeping fleet, no end in the forecast",
        "0:01: budget 40.0 W short of the demand at the SLO, enough in 1:30",
    ]


def test_a_tick_records_a_forecast_without_what_only_the_gateway_needs() -> None:
    serving = Shortage(20.0, 0.0, 30.0)
    forecast = ShortageForecast(None, serving, Shortage(40.0, 0.0, None))
    assert shortage_ticks(forecast) == (ShortageTick("demand", 40.0, 0.0, None),)
    assert shortage_ticks(ShortageForecast(None, None, None)) == ()


def test_the_first_shortage_begins_first_and_the_floor_goes_before_the_demand() -> None:
    floor, demand = ShortageTick("floor", 5.0, 9.0, None), ShortageTick("demand", 40.0, 9.0, None)
    soon = ShortageTick("demand", 1.0, 8.0, 9.0)
    assert first_shortage((demand, floor)) == floor
    assert first_shortage((floor, soon)) == soon
    assert first_shortage(()) is None


def test_the_longest_text_fits_a_line_of_a_terminal() -> None:
    text = shortage_text(ShortageTick("demand", 999e6, 35_999.0, None))
    assert text == "budget 999 MW short of the demand at the SLO in 9:59:59, no end in the forecast"
    assert len(text) < 80
