from __future__ import annotations

import pytest

from steppe.run.demo_sites.served import Phase, SiteRecord, bought_share, served_in, sums_of


def test_a_request_is_on_surplus_while_its_site_takes_nothing_from_the_grid(
    windy: SiteRecord, phase: Phase
) -> None:
    found = served_in(windy, phase)
    assert [(each.home, each.is_moved, each.on_surplus) for each in found] == [
        ("windy", False, True),
        ("city", True, True),
        ("city", True, False),
    ]
    assert (found[0].begun_epoch_s, found[0].ended_epoch_s) == (1021.0, 1024.0)


def test_the_sums_of_a_phase_are_those_of_all_its_sites(
    windy: SiteRecord, city: SiteRecord, phase: Phase
) -> None:
    sums = sums_of([windy, city], phase)
    assert (sums.served, sums.on_surplus, sums.moved) == (4, 2, 2)
    assert sums.moved_to == {"windy": 2, "city": 0}
    assert (sums.surplus_share, sums.moved_share, sums.tokens) == (0.5, 0.5, 40)
    windows = len(windy.windows(10.0, 115.0)) + len(city.windows(5.0, 110.0))
    assert sums.energy_j == pytest.approx(50.0 * windows)
    calm = sum(tick.t_s > 60 for tick in windy.windows(10.0, 115.0))
    assert sums.bought_j == pytest.approx(50.0 * (calm + len(city.windows(5.0, 110.0))))


def test_a_request_that_began_under_wind_and_ended_without_it_is_not_on_surplus(
    windy: SiteRecord,
) -> None:
    assert bought_share(windy.windows(55.0, 58.0)) == 0
    assert bought_share(windy.windows(58.0, 64.0)) == pytest.approx(4 / 6)
    assert bought_share(windy.windows(62.0, 64.0)) == 1


def test_power_of_unknown_origin_is_no_surplus() -> None:
    assert bought_share(()) == 1


def test_windows_are_those_that_a_time_touches(windy: SiteRecord) -> None:
    assert [tick.t_s for tick in windy.windows(10.0, 12.0)] == [11.0, 12.0]
    assert [tick.t_s for tick in windy.windows(10.5, 12.5)] == [11.0, 12.0, 13.0]
