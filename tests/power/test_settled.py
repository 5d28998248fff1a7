from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.power.settled import Offer, taken_w

WIND, SUN, GRID = Offer("wind", False, 30.0), Offer("sun", False, 10.0), Offer("grid", True, 50.0)


def test_what_is_not_bought_is_used_first_each_source_by_what_it_offers() -> None:
    assert taken_w(20.0, 0.0, [WIND, SUN, GRID]) == {"wind": 15.0, "sun": 5.0, "grid": 0.0}
    assert taken_w(60.0, 0.0, [WIND, SUN, GRID]) == {"wind": 30.0, "sun": 10.0, "grid": 20.0}


def test_a_battery_that_is_charged_takes_and_one_that_gives_comes_first() -> None:
    assert taken_w(20.0, -20.0, [WIND, SUN]) == {"wind": 30.0, "sun": 10.0}
    assert taken_w(45.0, 25.0, [WIND, SUN]) == {"wind": 15.0, "sun": 5.0, "battery": 25.0}


def test_a_draw_above_all_that_was_offered_is_from_the_grid() -> None:
    assert taken_w(50.0, 0.0, [WIND, SUN]) == {"wind": 30.0, "sun": 10.0, "grid": 10.0}
    assert taken_w(5.0, 0.0, []) == {"grid": 5.0}


watts = st.floats(0.0, 1e6)
offers = st.lists(
    st.builds(Offer, st.sampled_from(("wind", "sun", "grid", "other")), st.booleans(), watts),
    max_size=5,
)


@given(watts, st.floats(-1e6, 1.0), offers)
def test_what_is_taken_is_draw_and_charge_and_no_source_gives_more_than_it_offers(
    site_w: float, battery_w: float, made: list[Offer]
) -> None:
    battery_w = min(battery_w, site_w)
    found = taken_w(site_w, battery_w, made)
    charge_w = max(0.0, -battery_w)
    assert sum(found.values()) == pytest.approx(site_w + charge_w, rel=1e-9, abs=1e-6)
    assert all(value >= 0.0 for value in found.values())
    for source in ("wind", "sun", "other"):
        offered = sum(offer.watts for offer in made if offer.source == source)
        assert found.get(source, 0.0) <= offered * (1 + 1e-9) + 1e-9
