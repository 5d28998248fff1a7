from __future__ import annotations

from pathlib import Path

import pytest

from steppe.config import shipped_config
from steppe.run.demo_sites.demo import firm_w, loads_of, settled_by, with_next_day
from steppe.run.demo_sites.places import lay_out
from steppe.run.demo_sites.section import read_east_west
from steppe.run.demo_sites.weather import Days


def test_a_day_begins_a_moment_after_all_before_it_has_ended() -> None:
    days = with_next_day(Days((1000.0,), 90.0), 1150.0)
    first_s, second_s = days.begin_epoch_s
    assert first_s == 1000.0
    assert 1150.0 < second_s < 1160.0
    assert days.day_s == 90.0


def test_most_of_the_requests_are_asked_at_the_city_and_none_at_the_end_of_the_day(
    tmp_path: Path,
) -> None:
    source = shipped_config("east_west")
    places = lay_out(source, *read_east_west(source), tmp_path)
    loads = {load.site: load for load in loads_of(places, day_s=90.0)}
    counts = {site: len(load.arrivals) for site, load in loads.items()}
    assert counts["shanghai"] > counts["hohhot"] + counts["guizhou"]
    assert max(each.at_s for load in loads.values() for each in load.arrivals) < 88.0
    assert {load.target.url for load in loads.values()} == {
        place.url for place in places.sites.values()
    }
    assert [firm_w(place) for place in places.sites.values()] == [30.0, 46.0, 120.0]


@pytest.mark.parametrize(("ended_s", "length_s"), [(1000.0, 10), (1006.5, 10), (1007.5, 10)])
def test_the_demo_waits_until_the_period_of_the_last_request_is_settled(
    ended_s: float, length_s: int
) -> None:
    done_s = settled_by(ended_s, length_s)
    grace_s = 3.0
    last_period_end_s = (ended_s + grace_s) // length_s * length_s
    assert done_s >= last_period_end_s + grace_s
    assert done_s - ended_s < 2 * length_s + 2 * grace_s + 5.0
