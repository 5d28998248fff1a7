from __future__ import annotations

from pathlib import Path

import pytest

from steppe.config import load_config, parse_config, shipped_config
from steppe.run.demo_sites.weather import DAY_S, HOUR_S, Plant, Weather, plants_of, signals_of


def plants(name: str, folder: Path) -> tuple[Plant, ...]:
    return plants_of(load_config(shipped_config(f"east_west/{name}.yaml")), folder)


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_wind_and_sun_come_at_different_hours_so_that_load_moves(tmp_path: Path) -> None:
    (wind,), (sun,) = plants("hohhot", tmp_path), plants("guizhou", tmp_path)
    assert (wind.source, sun.source) == ("wind", "sun")
    night, noon, evening = (hour * HOUR_S for hour in (2, 12, 22))
    assert min(wind.at(night), sun.at(noon), wind.at(evening)) > 80
    assert max(wind.at(noon), sun.at(night), sun.at(evening)) < 10


def test_the_city_has_little_of_its_own(tmp_path: Path) -> None:
    (sun,) = plants("shanghai", tmp_path)
    assert max(sun.at(hour * HOUR_S) for hour in range(24)) < 30  # one idle GPU


def test_all_sites_are_written_at_one_time_of_the_day(tmp_path: Path) -> None:
    each = {name: plants(name, tmp_path / name) for name in ("hohhot", "guizhou")}
    for name in each:
        (tmp_path / name).mkdir()
    clock = Clock()
    weather = Weather(each, day_s=90.0, clock=clock)
    assert weather.of_day_s == 0
    weather.begin_day()
    clock.now_s += 45.0
    assert weather.of_day_s == DAY_S / 2
    weather.write()
    for (plant,) in each.values():
        assert float(plant.file.read_text()) == pytest.approx(plant.at(DAY_S / 2), abs=1e-3)
    clock.now_s += 90.0
    assert weather.of_day_s == DAY_S, "the day does not begin again by itself"


def test_a_site_follows_the_files_in_place_of_its_plants(tmp_path: Path) -> None:
    config = load_config(shipped_config("east_west/hohhot.yaml"))
    supply = signals_of(config.power, plants_of(config, tmp_path))
    assert [each["kind"] for each in supply] == ["signal", "constant"]
    assert supply[0]["source"] == "wind"
    values = {"kind": "emulated", "profile": "l4", "count": 1}
    run = {"model": {"name": "tiny"}, "device": values, "power": {"supply": supply}}
    assert parse_config(run, "run", tmp_path).power.supply[1] == config.power.supply[1]


def test_the_files_are_written_again_and_again_until_the_end(tmp_path: Path) -> None:
    own = plants("hohhot", tmp_path)
    with Weather({"hohhot": own}, day_s=90.0):
        first = own[0].file.stat().st_ino
        while own[0].file.stat().st_ino == first:
            pass
    assert float(own[0].file.read_text()) == pytest.approx(own[0].at(0.0), abs=1e-3)
