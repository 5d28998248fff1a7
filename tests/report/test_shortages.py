from __future__ import annotations

from steppe.control.shortage_forecast import Shortage, ShortageForecast
from steppe.report.records import ShortageTick
from steppe.report.shortages import first_shortage, shortage_text, shortage_ticks


def test_an_outlook_is_written_down_without_what_only_the_gateway_needs() -> None:
    serving = Shortage(20.0, 0.0, 30.0)
    outlook = ShortageForecast(None, serving, Shortage(40.0, 0.0, None))
    assert shortage_ticks(outlook) == (ShortageTick("demand", 40.0, 0.0, None),)
    assert shortage_ticks(ShortageForecast(None, None, None)) == ()


def test_what_begins_first_is_told_and_the_floor_before_the_demand() -> None:
    floor, demand = ShortageTick("floor", 5.0, 9.0, None), ShortageTick("demand", 40.0, 9.0, None)
    soon = ShortageTick("demand", 1.0, 8.0, 9.0)
    assert first_shortage((demand, floor)) == floor
    assert first_shortage((floor, soon)) == soon
    assert first_shortage(()) is None


def test_the_longest_text_fits_a_line_of_a_terminal() -> None:
    text = shortage_text(ShortageTick("demand", 999e6, 35_999.0, None))
    assert text == "budget 999 MW short of the demand at the SLO in 9:59:59, no end in the forecast"
    assert len(text) < 80
