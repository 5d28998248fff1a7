"""Measurement and verification as it happens: from the draw to the signed report of an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.grid_fleet import GridFleet, Times
from tests.grid.service.conftest import SiteFactory

from steppe.config import GridSection
from steppe.config.site_meter import SiteMeterSection
from steppe.grid.events.event import GridEvent, Share
from steppe.grid.history.reading import rank_of
from steppe.grid.history.steps import Span
from steppe.grid.meters.part import SiteMeterPart
from steppe.grid.meters.site_meter import MeteredDraw, SiteMeter
from steppe.grid.reports.event_folder import EventFolder, event_folders
from steppe.grid.reports.record import ReportState
from steppe.grid.service.links import links_of
from steppe.grid.service.seam import Cancel, PutEvent, Sample
from steppe.grid.service.verification import Verification
from steppe.grid.verify.audit import faults_of
from steppe.grid.verify.report import EventReport
from steppe.ledger.entry_log import LedgerAwayError
from steppe.ledger.service_entry import ServiceEntry
from steppe.power.signal import Missing, Reading

START_S = 1_782_482_400.0
"""2026-06-26 14:00 UTC."""
TICK_S = 10.0
PRICES = {
    "operator": {
        "currency": "CNY",
        "price_nano_per_kwh": 5_000_000_000,
        "penalty_nano_per_kwh": 10_000_000_000,
    }
}


@dataclass
class Log:
    """A log that may be away."""

    is_away: bool = False
    asked: int = 0
    entries: dict[str, bytes] = field(default_factory=dict)

    async def log_entries(self, entries: Sequence[ServiceEntry]) -> int:
        self.asked += 1
        if self.is_away:
            raise LedgerAwayError("the ledger does not answer")
        new = [each for each in entries if each.id not in self.entries]
        for each in entries:
            assert self.entries.setdefault(each.id, each.entry) == each.entry
        return len(new)


class Plant:
    """A site that ticks every 10 s, and the part that measures it."""

    meter: SiteMeterPart | None = None
    source = "modelled"

    def __init__(self, folder: Path, log: Log | None, **events: Any) -> None:
        usual = {"interval_s": 60, "before_s": 600, "rebound_s": 600, "programs": PRICES}
        self.section = GridSection.model_validate({"events": usual | events})
        self.folder, self.log, self.now_s = folder, log, Times(START_S)
        self.fleet = GridFleet(folder, links_of(self.section), self.now_s)
        self.part = self.new_part()
        self.ticks = 0

    def new_part(self) -> Verification:
        return Verification(self.folder / "grid", self.section, self.fleet, self.log, self.meter)

    async def begin(self) -> None:
        await self.part.start()

    async def start_again(self) -> None:
        await self.part.stop()
        self.part = self.new_part()
        await self.part.start()

    async def tick(self, seconds: float, draw_w: float, *, is_seen: bool = True) -> None:
        """Let time pass; the service sees each tick, or none of them."""
        for _ in range(round(seconds / TICK_S)):
            self.now_s.now_s += TICK_S
            self.ticks += 1
            self.fleet.draw_w = draw_w
            made = Sample(self.ticks, self.now_s(), draw_w, TICK_S, self.source)
            self.fleet.samples = [*self.fleet.samples, made][-900:]
            if is_seen:
                await self.part.see(await self.fleet.view(self.ticks - 1))

    async def ask(self, event: GridEvent) -> None:
        assert await self.fleet.take([PutEvent(event)]) == [""]
        await self.part.see(await self.fleet.view(self.ticks))
        await self.until(lambda: event in [each.held for each in self.part.records.values()])

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not is_so():
                await asyncio.sleep(0.005)

    async def reported(self, count: int = 1) -> list[EventFolder]:
        """Show the site until so many reports are there; return the folders of all events."""
        async with asyncio.timeout(30):
            while self.part.shown["reports"] + self.part.shown["to_log"] < count:
                await self.part.see(await self.fleet.view(self.ticks))
                await asyncio.sleep(0.005)
        return list(event_folders(self.folder / "grid" / "events"))

    def event(self, id_: str = "e1", **changes: Any) -> GridEvent:
        usual = GridEvent(
            id=id_,
            program="operator",
            priority=0,
            issued_s=self.now_s(),
            starts_s=self.now_s() + 60,
            ramp_down_s=60,
            hold_until_s=self.now_s() + 60 + 60 + 600,
            ramp_up_s=60,
            target=Share(0.7),
            kind="relative",
            source="http",
        )
        return replace(usual, **changes)


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.fixture
async def plant(tmp_path: Path, log: Log) -> AsyncIterator[Plant]:
    found = Plant(tmp_path, log)
    await found.begin()
    yield found
    await found.part.stop()


def report_in(folder: EventFolder) -> EventReport:
    report = folder.report()
    assert report is not None
    return report


async def deliver(plant: Plant, held_w: float = 690.0) -> None:
    """Let an event that has just been accepted pass, with its time for a rebound."""
    await plant.tick(120, 1000.0)
    await plant.tick(600, held_w)
    await plant.tick(60 + 660 + 60, 1000.0)


async def test_an_event_has_its_report_in_the_folder_and_in_the_log(plant: Plant, log: Log) -> None:
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event())
    await deliver(plant)
    (folder,) = await plant.reported()
    report = report_in(folder)
    assert report.baseline.name == "meter before"
    assert report.baseline.in_place_of.startswith("10-in-10: asked for 10 like days in the 45 days")
    assert {row.baseline_w for row in report.rows} == {1000}
    assert report.sums.delivered_j == 310 * 600
    assert report.sums.ratio_ppm == 1_000_000
    assert report.energy_source == "modelled"
    assert report.settlement is not None
    assert report.settlement.net_nano == round(300 * 600 / 3.6e6 * 5e9)
    assert report.following is not None
    assert report.following.peak_w == 300
    inputs = folder.baseline()
    assert inputs is not None
    assert faults_of(report, inputs) == ()
    assert "modelled" in folder.page.read_text()
    await plant.until(lambda: len(log.entries) == 1)
    assert list(log.entries.values()) == [report.log_entry]
    await plant.until(lambda: folder.record().state is ReportState.LOGGED)


class Silent:
    """A meter of the site; the test says what the part has read."""

    def at(self, time_s: float) -> Reading:
        return Missing(f"nothing at {time_s}")


def read(plant: Plant, watts: float | None) -> None:
    """Let the meter of the site read watts from now on, or nothing."""
    assert plant.meter is not None
    missing = "" if watts is not None else "its last reading is 31 s old"
    plant.meter.latest = MeteredDraw(watts, 0.0, 1000.0, missing)


@pytest.mark.parametrize(("source", "label"), [("counter", "integrated"), ("emulated",) * 2])
async def test_a_report_uses_the_meter_of_the_site_and_says_when_it_could_not(
    tmp_path: Path, source: str, label: str
) -> None:
    plant = Plant(tmp_path, None)
    section = SiteMeterSection(signal=f"{__name__}:Silent", settings={})
    plant.meter, plant.source = SiteMeterPart(SiteMeter(section)), source
    plant.part = plant.new_part()
    await plant.begin()
    await plant.tick(900, 1000.0)
    read(plant, 1100.0)
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event())
    await plant.tick(120, 1000.0)
    read(plant, 800.0)
    await plant.tick(300, 690.0)
    await plant.start_again()
    read(plant, None)
    await plant.tick(120, 690.0)
    read(plant, 800.0)
    await plant.tick(180, 690.0)
    read(plant, 1100.0)
    await plant.tick(780, 1000.0)
    (folder,) = await plant.reported()
    await plant.part.stop()
    report = report_in(folder)
    assert {row.baseline_w for row in report.rows} == {1100}
    assert sorted({row.load_w or 0 for row in report.rows}) == [690, 800]
    assert report.energy_source == label
    assert (report.computed_s, report.baseline_computed_s) == (120, 900)
    assert "not read at the meter of the site but computed: 2 min" in folder.page.read_text()
    assert faults_of(report, folder.baseline() or b"") == ()


async def test_what_is_drawn_after_the_acceptance_does_not_raise_the_baseline(
    plant: Plant,
) -> None:
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event())
    await plant.tick(120, 1900.0)
    await plant.tick(1400, 690.0)
    (folder,) = await plant.reported()
    assert {row.baseline_w for row in report_in(folder).rows} == {1000}


async def test_a_report_is_logged_once_when_the_ledger_comes_back(plant: Plant, log: Log) -> None:
    log.is_away = True
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event())
    await deliver(plant)
    (folder,) = await plant.reported()
    await plant.until(lambda: plant.part.shown["problems"] == ["the ledger does not answer"])
    assert folder.record().state is ReportState.REPORTED
    before = (folder.path / "report.json").read_bytes()
    await plant.start_again()
    log.is_away = False
    await plant.tick(60, 1000.0)
    await plant.until(lambda: folder.record().state is ReportState.LOGGED)
    assert (folder.path / "report.json").read_bytes() == before
    await plant.start_again()
    await plant.tick(60, 1000.0)
    assert len(log.entries) == 1


async def test_without_a_ledger_a_report_is_only_kept(tmp_path: Path) -> None:
    plant = Plant(tmp_path, None)
    await plant.begin()
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event())
    await deliver(plant)
    (folder,) = await plant.reported()
    assert folder.record().state is ReportState.KEPT
    await plant.part.stop()


async def test_a_service_that_was_away_in_the_event_has_the_readings_that_the_controller_kept(
    plant: Plant,
) -> None:
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event())
    await plant.part.stop()
    await plant.tick(120, 1000.0, is_seen=False)
    await plant.tick(600, 690.0, is_seen=False)
    await plant.tick(780, 1000.0, is_seen=False)
    await plant.start_again()
    (folder,) = await plant.reported()
    assert report_in(folder).sums.unmetered == 0
    assert report_in(folder).sums.delivered_j == 310 * 600


async def test_an_event_that_is_cancelled_counts_until_then(plant: Plant) -> None:
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event())
    await plant.tick(120, 1000.0)
    await plant.tick(300, 690.0)
    assert await plant.fleet.take([Cancel("http", "e1", plant.now_s())]) == [""]
    await plant.tick(1500, 1000.0)
    (folder,) = await plant.reported()
    record = folder.record()
    assert record.is_cancelled
    assert report_in(folder).sums.delivered_j == 310 * 300
    assert record.event.starts_s == START_S + 960


async def test_an_event_that_is_cancelled_before_its_start_has_no_report(plant: Plant) -> None:
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event())
    assert await plant.fleet.take([Cancel("http", "e1", plant.now_s())]) == [""]
    await plant.tick(30, 1000.0)
    await plant.until(lambda: plant.part.shown["waiting"] == 0)
    (folder,) = event_folders(plant.folder / "grid" / "events")
    assert (folder.record().state, folder.record().note) == (
        ReportState.NOTHING,
        "cancelled before its start",
    )


async def test_a_newer_version_moves_the_event_and_not_what_was_known(plant: Plant) -> None:
    await plant.tick(900, 1000.0)
    first = plant.event()
    await plant.ask(first)
    await plant.tick(30, 5000.0)
    by_s = 300
    moved = replace(
        first,
        issued_s=plant.now_s(),
        starts_s=first.starts_s + by_s,
        hold_until_s=first.hold_until_s + by_s,
    )
    await plant.ask(moved)
    await plant.tick(by_s, 5000.0)
    await deliver(plant)
    (folder,) = await plant.reported()
    report = report_in(folder)
    assert report.times.foreseeable_s == START_S + 900
    assert {row.baseline_w for row in report.rows} == {1000}


async def test_an_id_that_is_used_again_later_is_another_event(plant: Plant, log: Log) -> None:
    await plant.tick(900, 1000.0)
    for _ in range(2):
        await plant.ask(plant.event())
        await deliver(plant)
    folders = await plant.reported(2)
    assert len({each.name for each in folders}) == 2
    await plant.until(lambda: len(log.entries) == 2)


async def test_events_at_the_same_time_name_each_other_and_leave_the_baseline_alone(
    plant: Plant,
) -> None:
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event("e1"))
    await plant.tick(120, 1000.0)
    await plant.tick(120, 690.0)
    await plant.ask(plant.event("e2", target=Share(0.5)))
    await plant.tick(600, 690.0)
    await plant.tick(1500, 1000.0)
    first, second = map(report_in, await plant.reported(2))
    assert (first.asked.id, first.beside) == ("e1", ("http/e2",))
    assert (second.asked.id, second.beside) == ("e2", ("http/e1",))
    assert {row.baseline_w for row in second.rows} == {1000}


async def test_an_event_shows_what_it_has_delivered_so_far(plant: Plant) -> None:
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event())
    await plant.tick(120, 1000.0)
    await plant.tick(240, 690.0)
    await plant.until(lambda: any(each["intervals"] >= 3 for each in plant.part.shown["live"]))
    (live,) = plant.part.shown["live"]
    assert live["delivered_j"] == live["intervals"] * 60 * 310
    assert live["promised_j"] == live["intervals"] * 60 * 300
    assert (live["baseline_w"], live["energy_source"]) == (1000, "modelled")


async def test_an_event_that_still_limits_has_no_report_when_the_clock_is_set_forward(
    plant: Plant,
) -> None:
    await plant.tick(900, 1000.0)
    await plant.ask(plant.event())
    await plant.tick(180, 690.0)
    view = await plant.fleet.view(plant.ticks)
    await plant.part.see(replace(view, at_s=view.at_s + 7200))
    await plant.part.see(replace(view, at_s=view.at_s + 7200))
    await plant.until(lambda: plant.part._live_s > view.at_s)
    assert plant.part.shown["reports"] == 0


async def test_an_absurd_reading_is_shown_and_the_others_are_kept(plant: Plant) -> None:
    plant.fleet.samples = [Sample(1, START_S, float("nan"), 10.0, "modelled")]
    await plant.part.see(await plant.fleet.view(0))
    (problem,) = plant.part.shown["problems"]
    assert problem.startswith("reading 1: asked for W")
    plant.ticks = 1
    await plant.tick(20, 1000.0)
    assert plant.part.shown["problems"] == []


async def test_ticks_that_come_early_or_late_leave_no_gap_of_a_second(plant: Plant) -> None:
    late_s = [0.0, 0.3, 0.1, 0.4, 0.0, 0.2] * 10
    plant.fleet.samples = [
        Sample(n, START_S + n + by_s, 100.0, 1.0, "modelled") for n, by_s in enumerate(late_s, 1)
    ]
    await plant.part.see(await plant.fleet.view(0))
    assert plant.part._history is not None
    asked = Span(int(START_S) + 2, int(START_S) + 60, 1, rank_of("modelled"))
    assert set(plant.part._history.drawn(asked).load.watts) == {100}


async def test_the_service_answers_the_report_of_an_event(open_site: SiteFactory) -> None:
    section = GridSection.model_validate({"events": {"interval_s": 60, "rebound_s": 60}})
    site = await open_site(section)
    asked = {"share": 0.7, "hold_s": 300, "notice_s": 60}
    for at in range(1, 90):
        if at == 20:
            status, _ = await site.ask("PUT", "/steppe/v1/grid/events/e1", asked)
            assert status == 200
        site.now_s.now_s += TICK_S
        made = Sample(at, site.now_s(), 690.0 if 30 < at < 60 else 1000.0, TICK_S, "modelled")
        site.fleet.samples.append(made)
        await site.look()
        if at == 40:
            status, body = await site.ask("GET", "/steppe/v1/grid/events/e1/report")
            assert (status, body["error"]["code"]) in {(404, "report_pending"), (404, "not_found")}
    async with asyncio.timeout(30):
        while (await site.grid())["parts"]["verification"]["reports"] < 1:
            await site.look()
    status, body = await site.ask("GET", "/steppe/v1/grid/events/e1/report")
    assert (status, body["kind"], body["energy_source"]) == (200, "event_report", "modelled")
    url = f"{site.url}/steppe/v1/grid/events/e1/report"
    async with site.session.get(url, headers={"Accept": "text/html"}) as answer:
        assert answer.content_type == "text/html"
        assert "Event e1 at site" in await answer.text()
    status, body = await site.ask("GET", "/steppe/v1/grid/reports")
    assert [(each["id"], each["state"]) for each in body["data"]] == [("e1", "kept")]
    status, body = await site.ask("GET", "/steppe/v1/grid/events/e9/report")
    assert (status, "e9" in body["error"]["message"]) == (404, True)
