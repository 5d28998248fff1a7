from __future__ import annotations

import math

import pytest

from steppe.grid.offers.sources import (
    Now,
    battery_down,
    battery_up,
    deeper_sleep,
    given_up_work,
    more_work,
    slack_s,
    slower_streams,
    stopped_work,
)
from steppe.grid.plan.terms import Site, Work, per_mwh

TOKEN, ENERGY = per_mwh(1000.0), per_mwh(60.0)
QUICK = {"notice_s": 5.0, "ramp_w_per_s": 1e5}


def now_of(*work: Work, draw_w: float = 6e5, firm_tps: float = 0.0, stored_j: float = 0.0) -> Now:
    return Now(draw_w, firm_tps, stored_j, work, ENERGY)


def test_work_may_stop_until_the_full_draw_just_meets_its_deadline(site: Site) -> None:
    # 1.4e5 tokens/s at full draw: 1.26e8 tokens take 900 s of the 3600 s that are left.
    assert slack_s(site, now_of(Work(1.26e8, 3, TOKEN))) == pytest.approx(2700.0)


def test_the_nearest_deadline_with_all_before_it_counts(site: Site) -> None:
    later, sooner = Work(1.26e8, 3, TOKEN), Work(0.63e8, 0, TOKEN)
    assert slack_s(site, now_of(later, sooner)) == pytest.approx(450.0)
    assert slack_s(site, now_of(Work(1e12, 0, TOKEN))) == 0.0
    assert slack_s(site, now_of()) == math.inf


def test_stopped_work_gives_what_firm_work_does_not_need(site: Site) -> None:
    work = Work(1.26e8, 3, TOKEN)
    source = stopped_work(site, now_of(work, firm_tps=4e4), 900.0, **QUICK)
    assert source.watts == pytest.approx(6e5 - 3e5)
    assert source.sustained_w(900.0) == pytest.approx(3e5)
    assert source.sustained_w(1e5) < 3e5
    assert stopped_work(site, now_of(), 900.0, **QUICK).watts == 0.0


def test_work_that_is_late_costs_its_tokens_less_the_energy_saved(site: Site) -> None:
    now = now_of(Work(1.26e8, 1, TOKEN))
    free = stopped_work(site, now, 1800.0, **QUICK)
    late = given_up_work(site, now, **QUICK)
    assert free.sustained_w(1800.0) + late.sustained_w(1800.0) == pytest.approx(5e5)
    assert late.price == pytest.approx(per_mwh(200.0 - 60.0))


def test_slower_streams_miss_their_slo(site: Site) -> None:
    source = slower_streams(site, now_of(firm_tps=1e5), 0.5, **QUICK)
    assert source.watts == pytest.approx(2.5e5)
    assert source.slo_tokens_per_j == pytest.approx(0.2)
    assert source.price == pytest.approx(per_mwh(1000.0 - 60.0))


def test_sleep_takes_the_time_of_the_ladder_and_is_paid_back_on_waking() -> None:
    source = deeper_sleep(4, idle_w=200.0, asleep_w=50.0, sleep_s=10.0, wake_j=300.0)
    assert (source.watts, source.notice_s) == (600.0, 10.0)
    assert source.rebound_share == pytest.approx(1200.0 / 6000.0)


def test_the_battery_gives_what_it_stores_and_takes_what_it_has_room_for(site: Site) -> None:
    now = now_of(stored_j=1.8e9)
    down, up = battery_down(site, now, wear=0.0), battery_up(site, now, wear=0.0)
    assert down.sustained_w(900.0) == 5e5
    assert down.sustained_w(7200.0) == pytest.approx(1.8e9 * 0.95 / 7200.0)
    assert up.sustained_w(7200.0) == pytest.approx(1.8e9 / 0.95 / 7200.0)
    assert down.price == pytest.approx(ENERGY * (1 / 0.95**2 - 1))


def test_more_work_runs_only_while_there_is_some(site: Site) -> None:
    source = more_work(site, now_of(Work(9e6, 9, TOKEN)), **QUICK)
    assert source.watts == pytest.approx(4e5)
    assert source.energy_j == pytest.approx(9e6 / 0.2)
    assert more_work(site, now_of(), **QUICK).watts == 0.0
