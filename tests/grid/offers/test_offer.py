from __future__ import annotations

import random
from typing import Any

import pytest

from steppe.errors import UsageError
from steppe.grid.offers.futures import resampled
from steppe.grid.offers.offer import Call, PriceStep, at_least, offered
from steppe.grid.offers.sources import Now, Source, battery_down, slower_streams, stopped_work
from steppe.grid.plan.terms import Site, Work, per_mwh

CALL = Call(notice_s=60.0, hold_s=900.0)


def source(watts: float, price: float = 0.0, notice_s: float = 0.0, **more: Any) -> Source:
    return Source("work", watts, notice_s, watts / 10, price, **more)


def test_the_offer_is_what_nine_of_ten_futures_give() -> None:
    power = offered([[source(float(n))] for n in range(1, 100)], CALL)
    assert power.watts == 10
    assert power.sure_w == ((0.5, 50), (0.9, 10), (0.95, 5), (0.99, 1))
    assert power.ramp_w_per_s == pytest.approx(1.0)


def test_too_few_futures_for_the_confidence_give_no_offer() -> None:
    assert offered([[source(100.0)]] * 8, CALL).watts == 0
    assert offered([[source(100.0)]] * 9, CALL).watts == 100


def test_steps_rise_in_price_and_add_what_each_price_makes_certain() -> None:
    futures = [[source(100.0, 1.0), source(50.0 + n, 3.0)] for n in range(9)]
    power = offered(futures, CALL)
    assert power.steps == (PriceStep(100, 1.0), PriceStep(50, 3.0))
    assert power.price == pytest.approx((100 + 150) / 150)


def test_a_source_that_needs_more_notice_is_not_offered() -> None:
    futures = [[source(100.0), source(40.0, notice_s=61.0)]] * 9
    assert offered(futures, CALL).watts == 100


def test_a_source_with_little_energy_is_spread_over_the_hold_time() -> None:
    assert offered([[source(100.0, energy_j=9000.0)]] * 9, CALL).watts == 10


def test_rebound_and_tokens_are_stated() -> None:
    futures = [[source(100.0, rebound_share=0.5, tokens_per_j=0.2, recovery_s=1800.0)]] * 9
    power = offered(futures, CALL)
    assert power.rebound.energy_j == pytest.approx(0.5 * 100 * 900)
    assert power.rebound.within_s == 1800.0
    assert power.rebound.mean_w == pytest.approx(25.0)
    assert power.tokens_per_j == pytest.approx(0.2)


def test_lots_are_whole_and_never_more_than_offered() -> None:
    futures = [[source(1700.0, 1.0), source(700.0, 2.0), source(700.0, 3.0)]] * 9
    lots = offered(futures, CALL).lots(1000)
    assert lots == (PriceStep(1000, 1.0), PriceStep(1000, 2.0), PriceStep(1000, 3.0))
    with pytest.raises(UsageError, match="lot above 0 W"):
        offered(futures, CALL).lots(0)


def test_an_offer_needs_futures_and_a_hold_time() -> None:
    with pytest.raises(UsageError, match=r"found 0, 900\.0 and 0\.9"):
        offered([], CALL)
    with pytest.raises(UsageError, match=r"found 1, 0\.0"):
        offered([[]], Call(0.0, 0.0))


def test_futures_take_whole_earlier_days_each_once_before_any_again() -> None:
    errors = [(1.0, 2.0), (3.0, 4.0)]
    futures = resampled([10.0, 100.0], errors, 4, random.Random(1))
    assert sorted(futures[:2]) == [(10.0, 200.0), (30.0, 400.0)]
    assert sorted(futures[2:]) == sorted(futures[:2])
    with pytest.raises(UsageError, match="found none"):
        resampled([1.0], [], 1, random.Random(1))
    with pytest.raises(UsageError, match="errors of 1 steps, found 2"):
        resampled([1.0], errors, 1, random.Random(1))


def test_what_is_stated_for_nine_of_ten_futures_holds_in_nine_of_ten_others(site: Site) -> None:
    """Offers from 999 simulated futures, each tried in one future that it was not made from."""
    rng = random.Random(5)

    def future() -> list[Source]:
        firm_tps = 5e4 * rng.lognormvariate(0.0, 0.25)
        work = (Work(rng.uniform(2e7, 9e7), rng.randint(2, 12), per_mwh(1000.0)),)
        now = Now(6e5, min(firm_tps, 1e5), rng.uniform(0.0, 3.6e9), work, per_mwh(60.0))
        quick = {"notice_s": 5.0, "ramp_w_per_s": 1e5}
        waits = stopped_work(site, now, 3600.0, **quick)
        return [waits, slower_streams(site, now, 0.1, **quick), battery_down(site, now, 0.0)]

    call = Call(60.0, 3600.0)
    power = offered([future() for _ in range(999)], call)
    held = [sum(s.sustained_w(3600.0) for s in future()) >= power.watts for _ in range(1000)]
    assert power.watts > 1e5
    assert 880 <= sum(held) <= 920


def test_the_rank_of_a_quantile_is_exact_for_one_more_value_of_the_same_kind() -> None:
    rng, held = random.Random(2), 0
    for _ in range(4000):
        values = [rng.expovariate(1.0) for _ in range(20)]
        held += values[-1] >= at_least(values[:-1], 0.9)
    assert held / 4000 == pytest.approx(0.9, abs=0.015)
