"""The hourly supply: no Wh is lost or made, and a battery keeps the names of what charged it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.ledger.green.supply import UJ_PER_WH, Carried, Flows, HourSupply, supply_of

AMOUNT = st.integers(0, 5 * UJ_PER_WH)
MIX = st.dictionaries(st.sampled_from(["coal", "hydro", "wind"]), st.integers(0, 900))


@st.composite
def weeks(draw: st.DrawFn) -> list[Flows]:
    """Return hours whose meters count anything, gauges that are wrong included."""
    hours = []
    for hour in range(draw(st.integers(1, 8))):
        wind, sun, grid = draw(AMOUNT), draw(AMOUNT), draw(AMOUNT)
        charged = draw(st.integers(0, wind + sun + grid))
        given_, stored = draw(AMOUNT), draw(AMOUNT)
        load, mix = draw(AMOUNT), draw(MIX)
        hours.append(Flows(hour, load, wind, sun, grid, mix, charged, given_, stored))
    return hours


def run(hours: list[Flows]) -> tuple[list[HourSupply], Carried]:
    carried, supplies = Carried(), []
    for flows in hours:
        supply, carried = supply_of(flows, carried)
        supplies.append(supply)
    return supplies, carried


def wh(**amounts: int) -> dict[str, Any]:
    return {name: amount * UJ_PER_WH for name, amount in amounts.items()}


@settings(max_examples=40)
@given(weeks())
def test_no_wh_is_lost_or_made_over_hours(hours: list[Flows]) -> None:
    supplies, carried = run(hours)
    came = sum(f.wind_uj + f.sun_uj + f.grid_uj - f.charged_uj + f.discharged_uj for f in hours)
    whole = sum(sum(each.source_wh.values()) for each in supplies)
    assert whole * UJ_PER_WH + sum(carried.supply_uj.values()) == came
    assert all(0 <= rest < UJ_PER_WH for rest in carried.supply_uj.values())
    load = sum(each.load_wh for each in supplies)
    assert load * UJ_PER_WH + carried.load_uj == sum(f.load_uj for f in hours)


@settings(max_examples=40)
@given(weeks())
def test_a_battery_gives_no_more_of_a_source_than_it_took(hours: list[Flows]) -> None:
    supplies, carried = run(hours)
    for source in ("wind", "sun"):
        # What is metered and not given at once has gone into the battery.
        metered = sum(getattr(flows, f"{source}_uj") for flows in hours)
        kept = carried.stored_uj.get(source, 0)
        for key in (source, f"battery/{source}"):
            kept += sum(each.source_wh.get(key, 0) for each in supplies) * UJ_PER_WH
            kept += carried.supply_uj.get(key, 0)
        assert kept <= metered
    assert sum(carried.stored_uj.values()) == hours[-1].stored_uj
    assert all(each.lost_uj >= 0 for each in supplies)


@settings(max_examples=40)
@given(weeks())
def test_the_match_is_the_smaller_of_load_and_green_supply(hours: list[Flows]) -> None:
    for each in run(hours)[0]:
        green = ("wind", "sun", "battery/wind", "battery/sun")
        assert each.green_wh == sum(each.source_wh.get(source, 0) for source in green)
        assert each.matched_wh == min(each.load_wh, each.green_wh)


def test_a_battery_remembers_what_charged_it() -> None:
    night = Flows(1, **wh(load_uj=9, discharged_uj=9, grid_uj=3), grid_mix={"coal": 2, "hydro": 1})
    day = Flows(0, **wh(load_uj=30, wind_uj=20, sun_uj=10, grid_uj=10, charged_uj=20, stored_uj=18))
    supplies, carried = run([day, night])
    assert supplies[0].source_wh["wind"] == 10
    assert supplies[0].source_wh["grid/unknown"] == 5
    assert supplies[0].lost_uj == 2 * UJ_PER_WH
    # 18 Wh are half wind, a quarter sun, a quarter grid; the night gives half of them.
    assert supplies[1].lost_uj == 9 * UJ_PER_WH
    assert supplies[1].source_wh["grid/coal"] == 2
    assert supplies[1].source_wh["grid/hydro"] == 1
    assert supplies[1].source_wh["battery/wind"] == 4
    assert supplies[1].source_wh["battery/sun"] == 2
    assert supplies[1].green_wh == 6
    assert carried.supply_uj["battery/wind"] == UJ_PER_WH // 2


def test_what_a_battery_was_not_seen_to_take_is_not_green() -> None:
    supplies, carried = run([Flows(0, **wh(load_uj=5, discharged_uj=5, stored_uj=3))])
    assert supplies[0].source_wh["battery/unknown"] == 5
    assert supplies[0].green_wh == 0
    assert carried.stored_uj == {"unknown": 3 * UJ_PER_WH}


def test_green_power_of_the_grid_is_not_green_by_itself() -> None:
    supplies, _ = run([Flows(0, **wh(load_uj=5, grid_uj=5), grid_mix={"wind": 1})])
    assert supplies[0].source_wh["grid/wind"] == 5
    assert supplies[0].matched_wh == 0


def test_hours_run_forwards_only() -> None:
    _, carried = run([Flows(7, 0)])
    with pytest.raises(UsageError, match="asked for hours after 7, found 7"):
        supply_of(Flows(7, 0), carried)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"wind_uj": -1}, "hour 3: asked for wind_uj of at least 0, found -1"),
        ({"stored_uj": -1}, "asked for stored_uj of at least 0"),
        ({"sun_uj": 4, "charged_uj": 5}, "asked for charged_uj of 0 to 4, all that came, found 5"),
    ],
)
def test_a_wrong_count_is_refused_in_one_line(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        Flows(3, 0, **changes)
