"""What a controller holds of the grid: baselines, verdicts, and the record of a window."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.grid.limits.world import LINK, World

from steppe.grid.controller.site_grid import SiteGrid
from steppe.grid.controller.verdicts import Verdicts
from steppe.grid.events.comply import CannotComply, Complies
from steppe.grid.events.event import GridEvent, Share
from steppe.grid.limits.held import EventTarget
from steppe.grid.limits.limits import Limits
from steppe.grid.offers.sources import Source
from steppe.grid.service.seam import EventNow, PutEvent, PutLimit, Repeated
from steppe.power.budget import Budget
from steppe.power.settled import Settled
from steppe.report.records import GridTick

STREAMS = Source("slower streams", 600.0, 1.0, 600.0, 0.0)


class Site:
    """A site whose draw and time a test sets."""

    def __init__(self, path: Path) -> None:
        self.world, self.path = World(), path
        self.grid: SiteGrid
        self.restart(1000.0)
        self.grid.take([Repeated(LINK.name)])

    def restart(self, draw_w: float) -> None:
        """Start the controller anew."""
        limits = Limits(self.path, [LINK], clock=self.world.clock())
        self.grid = SiteGrid(limits, baseline_s=60.0, energy_source="emulated")
        self.grid.begin(draw_w)

    def tick(self, site_w: float, *, times: int = 1) -> GridTick | None:
        """Pass seconds with this draw; return the last record."""
        record = None
        for _ in range(times):
            self.world.true_s += 1.0
            budget = Budget(2000.0, 0.0, 2000.0, 2000.0, "wind", stale=False)
            self.grid.take([Repeated(LINK.name)] if self.world.true_s % 20 == 0 else [])
            record = self.grid.tick(replace(budget, settled=Settled(site_w)), 1.0)
        return record

    def take(self, event: GridEvent) -> EventNow:
        """Take an event; return what is known of it."""
        assert self.grid.take([PutEvent(event)]) == [""]
        return next(each for each in self.grid.view(0).events if each.event.id == event.id)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "kept")


def test_the_baseline_is_the_mean_draw_before_the_event(site: Site) -> None:
    site.tick(700.0, times=100)
    site.tick(800.0, times=30)
    assert site.take(site.world.event(in_s=10.0)).baseline_w == 750.0


def test_before_the_first_tick_the_baseline_is_the_draw_at_the_begin(site: Site) -> None:
    assert site.take(site.world.event()).baseline_w == 1000.0


def test_after_a_restart_the_baseline_of_a_running_event_stands_for_the_draw(site: Site) -> None:
    site.take(site.world.event())
    site.restart(100.0)
    assert site.take(site.world.event(name="e2")).baseline_w == 1000.0


def test_an_event_that_comes_during_another_gets_no_baseline_of_a_curtailed_site(
    site: Site,
) -> None:
    site.tick(800.0, times=60)
    site.take(site.world.event())
    site.tick(100.0, times=30)
    assert site.take(site.world.event(name="e2")).baseline_w == pytest.approx(800.0)
    site.tick(100.0, times=61)
    assert site.take(site.world.event(name="e3")).baseline_w == pytest.approx(800.0)


def test_a_newer_version_keeps_the_baseline_of_the_first(site: Site) -> None:
    site.tick(800.0, times=60)
    site.take(site.world.event())
    site.tick(100.0, times=70)
    newer = replace(site.world.event(), target=Share(0.5))
    assert site.take(newer).baseline_w == 800.0


def test_a_window_says_what_was_asked_when_it_began_and_what_was_delivered(site: Site) -> None:
    assert site.tick(800.0, times=60) is None
    site.take(site.world.event(in_s=5.0))
    site.tick(800.0)
    waiting = site.tick(800.0)
    asked = GridTick(event="openadr/e1", baseline_w=800.0, complies=True, hold_w=100.0)
    assert waiting == replace(asked, begins_in_s=3.0, ends_in_s=133.0)
    site.tick(800.0, times=3)
    begun = replace(asked, limit="openadr/e1", limit_w=800.0, target_w=800.0)
    assert site.tick(760.0) == replace(begun, delivered_w=40.0, ends_in_s=129.0), (
        "the ramp begins at the baseline"
    )
    site.tick(100.0, times=20)
    held = replace(begun, limit_w=100.0, target_w=100.0, complies=False)
    assert site.tick(120.0) == replace(held, delivered_w=680.0, ends_in_s=108.0)
    site.tick(100.0, times=120)
    assert site.tick(700.0) is None, "it has ended"


def test_a_limit_without_an_event_is_in_the_record(site: Site) -> None:
    site.grid.take([PutLimit(site.world.limit(500.0))])
    site.tick(400.0)
    assert site.tick(400.0) == GridTick("openadr/site", 500.0)


def test_of_two_events_that_wait_the_record_has_the_next(site: Site) -> None:
    site.take(site.world.event(name="later", in_s=50.0))
    site.take(site.world.event(name="sooner", in_s=30.0))
    site.tick(400.0)
    record = site.tick(400.0)
    assert record is not None
    assert record.event == "openadr/sooner"


def test_the_verdict_comes_before_the_start_and_stays_after_it(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site.tick(1000.0, times=60)
    site.grid.judge((STREAMS,))
    verdict = site.take(site.world.event(in_s=30.0)).verdict
    assert isinstance(verdict, CannotComply), "the event asks for 900 W less"
    assert verdict.short_w == pytest.approx(300.0)
    site.tick(1000.0)
    record = site.tick(1000.0)
    assert record is not None
    assert (record.complies, record.reason) == (False, verdict.reason)
    site.grid.judge((STREAMS,))
    assert len(caplog.records) == 1, "it is logged once"
    site.grid.judge((replace(STREAMS, watts=950.0, ramp_w_per_s=950.0),))
    assert "can comply" in caplog.records[1].message
    site.tick(1000.0, times=40)
    site.grid.judge(())
    (now,) = site.grid.view(0).events
    assert isinstance(now.verdict, Complies), "it has begun"
    assert len(caplog.records) == 2


def test_an_event_is_not_judged_before_the_flexibility_is_known(site: Site) -> None:
    assert site.take(site.world.event(in_s=30.0)).verdict == Complies(0.0)
    site.grid.judge(())
    (now,) = site.grid.view(0).events
    assert isinstance(now.verdict, CannotComply)


def test_the_view_has_limits_links_and_draws(site: Site) -> None:
    site.tick(300.0, times=3)
    limit = site.world.limit(500.0)
    site.grid.take([PutLimit(limit)])
    view = site.grid.view(1)
    assert (view.draw_w, view.budget_w, view.budget_source) == (300.0, 2000.0, "wind")
    assert view.in_force is not None
    assert view.in_force.name == "openadr/site"
    assert (view.limits, view.lost) == ((limit,), ())
    assert [sample.number for sample in view.samples] == [2, 3]
    site.world.true_s += 61
    assert site.grid.view(0).lost == ("openadr",)


def test_the_status_names_what_is_in_force_and_each_event(site: Site) -> None:
    site.tick(800.0, times=60)
    site.take(site.world.event())
    site.tick(500.0, times=20)
    status = site.grid.status()
    assert (status["limit"], status["limit_w"], status["lost"]) == ("openadr/e1", 100.0, [])
    (event,) = status["events"]
    assert (event["link"], event["id"], event["hold_w"]) == ("openadr", "e1", 100.0)
    assert (event["target_w"], event["delivered_w"], event["can_comply"]) == (100.0, 300.0, True)


def test_many_events_at_once_are_judged_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    judge = Verdicts.judge

    def counted(self: Verdicts, events: Sequence[EventTarget], *rest: Any) -> None:
        judged.append(len(events))
        judge(self, events, *rest)

    monkeypatch.setattr(Verdicts, "judge", counted)
    events = [PutEvent(site.world.event(name=f"e{i}", in_s=60.0)) for i in range(20)]
    assert site.grid.take(events) == [""] * 20
    assert judged == [20]


def test_an_event_that_asks_for_the_baseline_but_for_rounding_fails_no_tick(site: Site) -> None:
    site.grid.judge(())
    nearly = replace(site.world.event(in_s=60.0), target=Share(1.0 - 1e-12), kind="relative")
    assert site.take(nearly).verdict == Complies(0.0)
    site.grid.judge(())
