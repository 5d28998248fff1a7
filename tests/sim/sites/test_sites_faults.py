"""What fails between sites costs time, and no answer that another site can give."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fixtures.simulated_sites import TRIPS_S, MakeSites, Ran

from steppe.sim.sites.faults import (
    FalseSurplus,
    Fault,
    Faults,
    FlappingBeats,
    OneWay,
    SiteDown,
    Span,
    StaleBeats,
    WanCut,
)

MIDDLE = Span(15.0, 30.0)
FAULTS: dict[str, tuple[Fault, ...]] = {
    "cut": (WanCut("a", "b", MIDDLE),),
    "cut off": (WanCut("a", "b", MIDDLE), WanCut("b", "c", MIDDLE)),
    "one way": (OneWay("a", "b", MIDDLE),),
    "flapping": (FlappingBeats("b", MIDDLE, 4.5),),
    "stale": (StaleBeats("b", MIDDLE),),
    "lying": (FalseSurplus("c", MIDDLE, 2000.0),),
}


def sent_to(ran: Ran, home: str, site: str, span: Span) -> int:
    """Return how many requests of a site another one served that came in a time."""
    return sum(
        call.site == site and span.from_s <= call.arrival_s < span.to_s
        for call in ran.by_home(home)
    )


runs = pytest.mark.slow  # of eight runs


@pytest.fixture(scope="module")
def ran(make_sites: MakeSites) -> dict[str, Ran]:
    """Return a run with each fault, and one with none."""
    made = {name: make_sites().run("steppe", *faults) for name, faults in FAULTS.items()}
    made["lying"] = make_sites().run("steppe", *FAULTS["lying"], wind_w={})
    return made | {"none": make_sites().run()}


@runs
@pytest.mark.parametrize("name", FAULTS)
def test_no_request_is_lost(ran: dict[str, Ran], name: str) -> None:
    calls = ran[name].calls
    assert {call.finish for call in calls} == {"length"}
    assert len({call.id for call in calls}) == len(calls) == 3 * 90


@runs
@pytest.mark.parametrize("name", FAULTS)
def test_no_site_draws_more_than_its_budget(ran: dict[str, Ran], name: str) -> None:
    for site, records in ran[name].records.items():
        budget_j = sum(tick.budget_w for tick in records.ticks)
        assert ran[name].over_j(site) <= 1e-3 * budget_j


@runs
def test_after_a_cut_nothing_goes_there_until_beats_have_come_back(ran: dict[str, Ran]) -> None:
    lost, back = Span(19.0, 30.0), Span(36.0, 45.0)
    assert sent_to(ran["cut"], "a", "b", lost) == 0
    assert sent_to(ran["cut"], "c", "b", lost) > 0, "the way from c still works"
    assert sent_to(ran["cut"], "a", "b", back) > 0


@runs
def test_a_site_that_is_cut_off_serves_its_own_clients(ran: dict[str, Ran]) -> None:
    lost = Span(19.0, 30.0)
    assert sent_to(ran["cut off"], "b", "b", lost) == len(
        [c for c in ran["cut off"].by_home("b") if lost.holds(c.arrival_s)]
    )


@runs
def test_answers_that_a_cut_breaks_are_continued(make_sites: MakeSites) -> None:
    cut = (WanCut("a", "b", MIDDLE), WanCut("b", "c", MIDDLE))
    broken = make_sites(rate_rps=5.0).run("steppe", *cut)
    moved = [call for call in broken.calls if "b" in call.refusals]
    assert moved
    assert all(call.finish == "length" for call in moved)


@runs
def test_a_loss_on_one_way_stops_both(ran: dict[str, Ran]) -> None:
    lost = Span(20.0, 30.0)
    assert sent_to(ran["one way"], "a", "b", lost) == 0
    assert sent_to(ran["one way"], "c", "b", lost) > 0


@runs
def test_a_site_whose_beats_flap_gets_less(ran: dict[str, Ran]) -> None:
    flapping = sent_to(ran["flapping"], "a", "b", MIDDLE)
    assert flapping < 0.5 * sent_to(ran["none"], "a", "b", MIDDLE)


@runs
def test_a_site_that_lies_gets_work_that_its_own_budget_bounds(ran: dict[str, Ran]) -> None:
    assert sent_to(ran["lying"], "a", "c", MIDDLE) > 0
    assert all(call.site == call.home for call in ran["lying"].calls if call.arrival_s < 15.0)


@runs
def test_when_a_site_dies_others_go_on_with_its_answers(make_sites: MakeSites) -> None:
    ran = make_sites(rate_rps=5.0).run("steppe", SiteDown("b", MIDDLE))
    for home in ("a", "c"):
        assert {call.finish for call in ran.by_home(home)} == {"length"}
    assert any(call.continued for call in ran.calls), "some answers were half done"
    at_b = {call.finish for call in ran.by_home("b")}
    assert at_b <= {"length", "failed"}, "a stream whose own gateway dies is broken"
    after = [c for c in ran.by_home("b") if MIDDLE.from_s < c.arrival_s < MIDDLE.to_s]
    assert {call.finish for call in after} == {"length"}
    assert "b" not in {call.site for call in after if call.arrival_s < MIDDLE.to_s - 1.0}
    assert any(call.site == "b" for call in ran.by_home("b") if call.arrival_s > 34.0)


def test_what_passes_between_sites() -> None:
    faults = Faults((OneWay("a", "b", MIDDLE), SiteDown("c", MIDDLE)))
    assert not faults.passes("a", "b", 22.0)
    assert faults.passes("b", "a", 22.0)
    assert not faults.connects("b", "a", 22.0)
    assert not faults.passes("b", "c", 22.0)
    assert all(faults.passes(*way, 35.0) for way in TRIPS_S)
    flapping = Faults((FlappingBeats("a", MIDDLE, 4.0),))
    assert [flapping.beat_passes("a", "b", now_s) for now_s in (14.0, 16.0, 20.0, 24.0)] == [
        True, False, True, False,
    ]  # fmt: skip
    assert flapping.connects("a", "b", 16.0)


@runs
def test_a_false_surplus_is_added_to_what_is_true(ran: dict[str, Ran]) -> None:
    view = ran["none"].run.sites["c"].view(1, 45.0)
    assert view is not None
    shown = Faults((FalseSurplus("c", Span(0.0, 99.0), 500.0),)).shown(view, 45.0)
    assert shown.surplus_w == view.surplus_w + 500.0
    assert shown.pools["m"].free_tps == view.pools["m"].capacity_tps
    assert replace(shown, surplus_w=0.0) != view
