"""The part of the grid service that measures: history of the draw, baselines, reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from steppe.config import GridSection
from steppe.errors import SteppeError, UsageError
from steppe.grid.events.comply import CannotComply
from steppe.grid.history.day_files import day_of
from steppe.grid.history.history import History, HistoryTerms
from steppe.grid.history.reading import SiteReading, rank_of, reading_of
from steppe.grid.meters.part import SiteMeterPart
from steppe.grid.reports.live import Delivered, delivered_of
from steppe.grid.reports.metered_times import MeteredTimes
from steppe.grid.reports.record import EventRecord, ReportState
from steppe.grid.reports.terms import VerifyTerms, declared_load
from steppe.grid.reports.verifier import Verifier, WatchedEvent
from steppe.grid.service.seam import EventNow, FleetLimits, GridView, Sample
from steppe.grid.verify.audit import kept_of
from steppe.ledger.entry_log import EntryLog

DRAW, EVENTS = "draw", "events"
"""Folders of the history and of the events, in the folder of the grid."""
LIVE_EVERY_S = 5.0
MOST_JITTER = 0.5
"""The span of a reading begins where the one before ended, if that is off by less than this share
of it: ticks come a little early or late."""
LATE_S = 5.0
"""The meter of the site stands for samples that are at most so old, s; older ones are computed."""
SEND_AGAIN_S = 10.0
"""Entries that the ledger did not take are sent again after this time, s."""
_log = logging.getLogger(__name__)


class Verification:
    """Keeps the draw, fixes the baseline of each event, and makes and logs its report.

    Attributes:
        name: Its name.
    """

    name = "verification"

    def __init__(
        self,
        folder: Path,
        section: GridSection,
        limits: FleetLimits,
        log: EntryLog | None,
        meter: SiteMeterPart | None = None,
    ) -> None:
        """Prepare; nothing happens before `start`.

        Args:
            folder: Folder of the grid.
            section: The configuration.
            limits: The controller, for readings that were missed.
            log: The log of the ledger; None without a ledger.
            meter: The meter of the site, which sees the site before this does; None without one.
        """
        self._meter = meter
        self._metered: MeteredTimes | None = None
        self._folder, self._section, self._limits, self._log = folder, section, limits, log
        self._terms = VerifyTerms(section.events, section.site, section.baseline_s)
        self._history: History | None = None
        self._verifier: Verifier | None = None
        self._view: GridView | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._live: tuple[Delivered, ...] = ()
        self._live_s, self._send_s = 0.0, 0.0
        self._tidied = ""
        self._problems: dict[str, str] = {}
        self._before: Sample | None = None
        self._has_all = False

    @property
    def shown(self) -> Mapping[str, Any]:
        """Return what it says of itself: live events, reports, and what is wrong."""
        verifier = self._verifier
        records = {} if verifier is None else verifier.records
        states = [record.state for record in records.values()]
        return {
            "baseline": self._section.events.baseline,
            "live": [asdict(each) for each in self._live],
            "waiting": states.count(ReportState.WAITS),
            "to_log": states.count(ReportState.REPORTED),
            "reports": sum(each in (ReportState.KEPT, ReportState.LOGGED) for each in states),
            "problems": sorted(self._problems.values()),
        }

    @property
    def records(self) -> dict[str, EventRecord]:
        """All events by the name of their folder; none before `start`."""
        return {} if self._verifier is None else self._verifier.records

    def page_of(self, name: str) -> Path:
        """Return the page of the report of an event."""
        return self._folder / EVENTS / name / "report.html"

    async def start(self) -> None:
        """Open the history and the events.

        Raises:
            UsageError: The declared baseline or the history cannot be read.
        """
        await asyncio.to_thread(self._open)
        self._task = asyncio.create_task(self._run())

    async def see(self, view: GridView) -> None:
        """Keep the draw; the rest is for a task of its own.

        Raises:
            DiskFullError, UsageError: It cannot be written: the readings are asked for again.
        """
        history = self._history
        assert history is not None, "started"
        await asyncio.to_thread(self._take, view)
        if history.after == 0 or not self._has_all:
            missed = await self._limits.view(0)
            await asyncio.to_thread(history.take, self._readings(missed.samples))
            self._has_all = True
        self._view = view
        self._news.set()

    async def stop(self) -> None:
        """End; what is not in the log is logged after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self._history is not None:
            await asyncio.to_thread(self._history.close)

    async def work(self, view: GridView) -> None:
        """Note events, make the reports that are due, and log them."""
        await self._tried("events", asyncio.to_thread(self._note, view))
        await self._tried("live", asyncio.to_thread(self._look, view))
        if self._log is not None and view.at_s >= self._send_s:
            self._send_s = view.at_s + SEND_AGAIN_S
            await self._tried("ledger", self._send(self._log))
        await self._tried("history", asyncio.to_thread(self._tidy, view))

    def _open(self) -> None:
        section = self._section.events
        if section.declared is not None:
            declared_load(section.declared, section.interval_s)
        terms = HistoryTerms(section.readings_days, section.history_days)
        self._history = history = History(self._folder / DRAW, terms)
        has_ledger = self._log is not None
        self._metered = metered = MeteredTimes(self._folder)
        if (last := history.last) is not None:
            # What was drawn since is computed until the meter is read again.
            metered.note(last.end_ms / 1000, last.end_ms / 1000 + 1e-3, is_metered=False)
        self._verifier = Verifier(
            self._folder / EVENTS,
            history,
            self._terms,
            has_ledger=has_ledger,
            metered=metered if self._meter is not None or metered.has_any else None,
        )

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._view is not None:
                await self.work(self._view)

    async def _tried(self, what: str, doing: Any) -> None:
        """Do something; an error is logged once and shown, and it is tried again."""
        problem = ""
        try:
            await doing
        except (SteppeError, OSError) as error:
            problem = str(error) or type(error).__name__
        if problem and problem != self._problems.get(what):
            _log.warning("verification: %s: %s", what, problem)
        self._problems.pop(what, None)
        if problem:
            self._problems[what] = problem

    def _note(self, view: GridView) -> None:
        assert self._verifier is not None, "started"
        assert self._history is not None, "started"
        held = [_held(each, view) for each in view.events]
        last = self._history.last
        rank = _rank(view.energy_source) if last is None else last.rank
        self._verifier.note(held, view.at_s, rank)
        self._verifier.make_due(held, view.at_s)

    def _look(self, view: GridView) -> None:
        """See what events have delivered so far."""
        verifier, history = self._verifier, self._history
        assert verifier is not None, "started"
        assert history is not None, "started"
        if 0 <= view.at_s - self._live_s < LIVE_EVERY_S:
            return
        self._live_s = view.at_s
        found = []
        for name, record in verifier.records.items():
            inputs = verifier.folder_of(name).baseline() if _is_live(record, view.at_s) else None
            if inputs is not None:
                found.append(delivered_of(record, kept_of(inputs), history, view.at_s))
        self._live = tuple(each for each in found if each is not None)

    async def _send(self, log: EntryLog) -> None:
        verifier = self._verifier
        assert verifier is not None, "started"
        for name, entry in await asyncio.to_thread(verifier.to_log):
            await log.log_entries([entry])
            await asyncio.to_thread(verifier.logged, name)

    def _tidy(self, view: GridView) -> None:
        today = day_of(view.at_s).isoformat()
        if today != self._tidied and self._history is not None:
            self._history.tidy(view.at_s)
            self._tidied = today

    def _take(self, view: GridView) -> None:
        """Keep the draw of a view: where it is new, what the meter of the site reads."""
        history, times = self._history, self._metered
        assert history is not None, "started"
        assert times is not None, "started"
        samples = [self._at_meter(each, view) for each in view.samples]
        history.take(self._readings([sample for sample, _ in samples]))
        for each, is_metered in samples:
            times.note(each.at_s - each.span_s, each.at_s, is_metered=is_metered)

    def _at_meter(self, sample: Sample, view: GridView) -> tuple[Sample, bool]:
        """Return a sample with the metered draw, if there is one of its time, and whether it is."""
        latest = None if self._meter is None or view.draw_w is None else self._meter.latest
        is_of_now = 0 <= view.at_s - sample.at_s <= max(LATE_S, sample.span_s)
        if latest is None or latest.watts is None or not is_of_now:
            return sample, False
        # A fleet that is emulated has no meter: what is read beside it stays emulated.
        is_real = _rank(sample.energy_source) < rank_of("emulated")
        source = "integrated" if is_real else sample.energy_source
        return replace(sample, site_w=latest.watts, energy_source=source), True

    def _readings(self, samples: Sequence[Sample]) -> list[SiteReading]:
        """Return the readings of samples; one that is absurd is left out and shown."""
        found, problem = [], ""
        for each in samples:
            span_s, self._before = _span_s(each, self._before), each
            try:
                found.append(
                    reading_of(each.number, each.at_s, each.site_w, span_s, each.energy_source)
                )
            except UsageError as error:
                problem = str(error)
        self._problems.pop("readings", None)
        if problem:
            self._problems["readings"] = problem
        return found


def _span_s(sample: Sample, before: Sample | None) -> float:
    """Return the length of a span without the jitter of its ticks, s."""
    if before is None or sample.number != before.number + 1:
        return sample.span_s
    since_s = sample.at_s - before.at_s
    is_near = abs(since_s - sample.span_s) < MOST_JITTER * sample.span_s
    return since_s if is_near else sample.span_s


def _held(now: EventNow, view: GridView) -> WatchedEvent:
    verdict = now.verdict.reason if isinstance(now.verdict, CannotComply) else ""
    return WatchedEvent(now.event, now.baseline_w, now.target_w is not None, verdict)


def _is_live(record: EventRecord, now_s: float) -> bool:
    times = record.times
    is_on = times is not None and times.start_s <= now_s < times.end_s + record.interval_s
    return is_on and record.state is ReportState.WAITS


def _rank(energy_source: str) -> int:
    try:
        return rank_of(energy_source)
    except UsageError:
        return rank_of("modelled")
