from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.grid.offers.history import FUTURES, Moment, Past, Window, lowest, needed
from steppe.grid.offers.offer import Call
from steppe.grid.offers.site_offer import site_offers
from steppe.grid.offers.sources import Source
from steppe.grid.verify.delivery import Direction

CALL = Call(60.0, 600.0)
STEP_S, HOUR_S = 300.0, 3600.0


def source(watts: float, name: str = "work", price: float = 0.0) -> Source:
    return Source(name, watts, 1.0, watts, price)


def moments(*watts: float) -> list[Moment]:
    return [Moment(n * STEP_S, (source(each),)) for n, each in enumerate(watts)]


def noisy(hours: int, seed: int = 0) -> list[Moment]:
    rng = random.Random(seed)
    return moments(*(rng.uniform(1e5, 2e5) for _ in range(hours * 12)))


def test_a_window_gives_what_is_there_all_the_time() -> None:
    rows = [[source(5.0), source(7.0, "streams", 2.0)], [source(9.0), source(1.0, "streams", 2.0)]]
    found = lowest(rows, 600.0)
    assert [(one.name, one.watts) for one in found] == [("work", 5.0), ("streams", 5.0)]


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.lists(st.floats(1.0, 1e3), min_size=3, max_size=3), min_size=1, max_size=6))
def test_up_to_each_price_no_moment_gives_less(rows: list[list[float]]) -> None:
    sources = [[source(w, f"s{n}", float(n)) for n, w in enumerate(row)] for row in rows]
    found = lowest(sources, 600.0)
    for price in range(3):
        below_w = sum(one.watts for one in found if one.price <= price)
        least_w = min(sum(row[: price + 1]) for row in rows)
        assert below_w <= least_w + 1e-6
    assert sum(one.watts for one in found) == pytest.approx(min(map(sum, rows)))


def test_futures_are_what_followed_on_times_like_now() -> None:
    history = moments(*([100.0] * 12 + [10.0] * 12 + [300.0] * 12 + [30.0] * 12) * 20)
    now = Moment(history[-1].at_s + STEP_S, (source(300.0),))
    futures = Past(history, CALL, Direction.LESS).futures(
        now, Window(now.at_s + HOUR_S, now.at_s + HOUR_S + 600.0)
    )
    assert {sum(one.watts for one in each) for each in futures[:20]} == {30.0}


def test_earlier_times_are_apart_from_each_other() -> None:
    history = noisy(12)
    now = Moment(history[-1].at_s, history[-1].sources)
    window = Window(now.at_s + STEP_S, now.at_s + STEP_S + HOUR_S)
    assert len(Past(history, CALL, Direction.LESS).futures(now, window)) <= 11
    long = noisy(100)
    later = Moment(long[-1].at_s, long[-1].sources)
    window = Window(later.at_s + STEP_S, later.at_s + STEP_S + HOUR_S)
    assert len(Past(long, CALL, Direction.LESS).futures(later, window)) == FUTURES


def test_a_stretch_with_a_gap_is_no_future() -> None:
    history = noisy(14)
    cut = [m for m in history if not 6.0 * HOUR_S < m.at_s < 9.0 * HOUR_S]
    now = Moment(history[-1].at_s, history[-1].sources)
    window = Window(now.at_s, now.at_s + HOUR_S)
    whole, gapped = (Past(each, CALL, Direction.LESS) for each in (history, cut))
    assert len(gapped.futures(now, window)) < len(whole.futures(now, window))


def test_too_little_history_offers_nothing_and_says_why() -> None:
    history = noisy(5)
    now = Moment(history[-1].at_s, history[-1].sources)
    (found,) = site_offers("s", history, now, [Window(now.at_s, now.at_s + HOUR_S)], CALL)
    assert found.offer.down.watts == 0
    assert found.down_reason == (
        "too little history: asked for 9 earlier times, 3600 s apart, with the 3600 s that followed"
    )
    assert needed(0.9) == 9
    assert needed(0.99) == 99


def test_what_no_future_gives_for_sure_is_not_offered_and_says_what_there_is_now() -> None:
    history = moments(*[100.0, 0.0] * 300)
    now = Moment(history[-1].at_s + STEP_S, (source(100.0),))
    (found,) = site_offers("s", history, now, [Window(now.at_s, now.at_s + HOUR_S)], CALL)
    assert found.offer.down.watts == 0
    assert found.down_reason == "not in 90% of the futures; now it is 100 W"


def test_an_offer_of_nine_in_ten_holds_in_nine_of_ten_later_windows() -> None:
    history = noisy(110)
    held = tried = 0
    for end in range(400, len(history) - 13, 13):
        now = history[end]
        window = Window(now.at_s, now.at_s + HOUR_S)
        (found,) = site_offers("s", history[: end + 1], now, [window], CALL)
        later = lowest([m.sources for m in history[end : end + 13]], CALL.hold_s)
        held += sum(one.watts for one in later) >= found.offer.down.watts
        tried += 1
    assert tried == 70
    assert 0.83 <= held / tried <= 0.97
