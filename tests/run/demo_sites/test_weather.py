from __future__ import annotations

import csv
from pathlib import Path

import pytest

from steppe.config import load_config, parse_config, shipped_config
from steppe.config.power import TraceSupply
from steppe.power.trace import load_trace
from steppe.run.demo_sites.weather import (
    DAY_S,
    HOUR_S,
    Days,
    Plant,
    Weather,
    plants_of,
    power_values,
)

DAYS = Days((1010.0, 1110.0), day_s=90.0)
RUN_EPOCH_S = 1000.0


def plants(name: str, folder: Path) -> tuple[Plant, ...]:
    return plants_of(load_config(shipped_config(f"east_west/{name}.yaml")), folder)


def test_wind_and_sun_come_at_different_hours_so_that_load_moves(tmp_path: Path) -> None:
    (wind,), (sun,) = plants("hohhot", tmp_path), plants("guizhou", tmp_path)
    assert (wind.source, sun.source) == ("wind", "sun")
    night, noon, evening = (hour * HOUR_S for hour in (2, 12, 22))
    assert min(wind.at(night), sun.at(noon), wind.at(evening)) > 80
    assert max(wind.at(noon), sun.at(night), sun.at(evening)) < 10


def test_the_city_has_little_of_its_own(tmp_path: Path) -> None:
    (sun,) = plants("shanghai", tmp_path)
    assert max(sun.at(hour * HOUR_S) for hour in range(24)) < 30  # one idle GPU


def test_the_same_day_comes_once_for_each_phase_and_stands_in_between() -> None:
    times_s = {1000: 0.0, 1010: 0.0, 1055: DAY_S / 2, 1100: DAY_S, 1109: DAY_S, 1110: 0.0}
    assert {epoch_s: DAYS.of_day_s(epoch_s) for epoch_s in times_s} == times_s
    assert DAYS.of_day_s(9999.0) == DAY_S
    assert Days((), 90.0).of_day_s(1000.0) == 0


def test_a_site_replays_the_days_second_by_second_over_the_time_of_its_run(tmp_path: Path) -> None:
    (wind,) = plants("hohhot", tmp_path)
    wind.write(DAYS, RUN_EPOCH_S)
    with wind.file.open() as file:
        found = {int(row["t_s"]): float(row["power_w"]) for row in csv.DictReader(file)}
    assert found[55] == found[155] == pytest.approx(wind.at(DAY_S / 2), abs=1e-3)
    assert found[0] == found[10] == found[110] == pytest.approx(wind.at(0.0), abs=1e-3)
    assert found[105] == pytest.approx(wind.at(DAY_S), abs=1e-3)
    assert max(found) > 1000, "a run that lasts longer has a supply"


def test_the_section_of_a_run_has_the_trace_in_place_of_the_plant(tmp_path: Path) -> None:
    config = load_config(shipped_config("east_west/hohhot.yaml"))
    own = plants_of(config, tmp_path)
    own[0].write(DAYS, RUN_EPOCH_S)
    device = {"kind": "emulated", "profile": "l4", "count": 1}
    run = {"model": {"name": "tiny"}, "device": device, "power": power_values(config.power, own)}
    power = parse_config(run, "run", tmp_path).power
    trace, bought = power.supply
    assert isinstance(trace, TraceSupply)
    assert (trace.source, bought, power.speedup) == ("wind", config.power.supply[1], 1.0)
    assert load_trace(trace).at(55.0) == pytest.approx(own[0].at(DAY_S / 2), abs=1e-3)


def test_the_time_of_the_day_is_that_of_the_clock() -> None:
    assert Weather(DAYS, clock=lambda: 1155.0).of_day_s == DAY_S / 2
    assert Weather(DAYS, clock=lambda: 1200.0).is_over
    assert not Weather(DAYS, clock=lambda: 1155.0).is_over
