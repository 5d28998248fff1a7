"""The events of a site: the baseline of each is fixed at once, its report is made when due."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from steppe.errors import DiskFullError, UsageError
from steppe.grid.events.event import GridEvent
from steppe.grid.history.history import History
from steppe.grid.reports.baselines import Inputs, fixed_baseline, times_of_record, with_times
from steppe.grid.reports.event_folder import EventFolder, event_folders, new_folder
from steppe.grid.reports.making import overlapping, report_of_record, with_meter
from steppe.grid.reports.metered_times import MeteredTimes
from steppe.grid.reports.record import EventRecord, ReportState, newer_version
from steppe.grid.reports.terms import VerifyTerms
from steppe.grid.verify.audit import kept_of
from steppe.grid.verify.page import page_html
from steppe.grid.verify.times import Span
from steppe.ledger.service_entry import GRID_EVENT, ServiceEntry

GRACE_S = 15.0
"""A report waits so much longer than it is due, s: the last readings may come late."""
AGAIN_S = 60.0
"""A report that could not be made is tried again after this time, s."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchedEvent:
    """An event that the controller holds.

    Attributes:
        event: The event.
        stated_w: The baseline that the controller stated, W.
        is_asking: Whether it sets a limit now.
        verdict: Why the site cannot comply; empty if it can.
    """

    event: GridEvent
    stated_w: float
    is_asking: bool
    verdict: str = ""


class Verifier:
    """The events of a site, on disk; one thread at a time may call it."""

    def __init__(
        self,
        folder: Path,
        history: History,
        terms: VerifyTerms,
        *,
        has_ledger: bool,
        metered: MeteredTimes | None = None,
    ) -> None:
        """Go on with the events of a folder.

        Args:
            folder: The folder; it has one for each event.
            history: What the site drew.
            terms: How events are measured.
            has_ledger: Whether reports go into a log.
            metered: When the draw was read at the meter of the site; None without one.
        """
        self._folder, self._history, self._terms = folder, history, terms
        self._has_ledger, self._metered = has_ledger, metered
        self._found = {each.name: (each, record) for each, record in _events_in(folder)}
        self._again_s: dict[str, float] = {}

    @property
    def records(self) -> dict[str, EventRecord]:
        """The records of all events, by the name of their folder, which begins with their start."""
        return {name: record for name, (_, record) in sorted(self._found.items())}

    def folder_of(self, name: str) -> EventFolder:
        """Return the folder of an event."""
        return self._found[name][0]

    def note(self, held: Iterable[WatchedEvent], now_s: float, rank: int) -> None:
        """Take note of the events that are held; the baseline of a new one is fixed.

        Args:
            held: The events.
            now_s: The present, s since the Unix epoch.
            rank: Where the energy of the site is from, its place in `ENERGY_SOURCES`.

        Raises:
            DiskFullError, UsageError: It cannot be written: it is tried again at the next call.
        """
        for each in held:
            name = self._open_name(each.event, now_s)
            if name is None:
                if not self._is_known(each.event):
                    self._accept(each, now_s, rank)
                continue
            folder, record = self._found[name]
            if record.held != each.event:
                self._change(name, newer_version(record, each.event, now_s))
            elif now_s < record.event.starts_s and record.verdict != each.verdict:
                self._keep(name, folder, replace(record, verdict=each.verdict))

    def make_due(self, held: Sequence[WatchedEvent], now_s: float) -> list[str]:
        """Make the reports that are due; return the names of their events.

        An event that still sets a limit is not over, whatever a clock that was set says. One that
        cannot be made now is tried again later, and hinders no other.
        """
        asking = {(each.event.source, each.event.id) for each in held if each.is_asking}
        made = []
        for name, (_, record) in sorted(self._found.items()):
            due_s = record.due_s
            is_over = due_s is not None and now_s >= due_s + GRACE_S and record.key not in asking
            if record.state is ReportState.WAITS and is_over and self._made(name, now_s):
                made.append(name)
        return made

    def to_log(self) -> list[tuple[str, ServiceEntry]]:
        """Return the entries of the reports that are not in the log yet, by name.

        Raises:
            UsageError: A report cannot be read.
        """
        if not self._has_ledger:
            return []
        found = []
        for name, (folder, record) in sorted(self._found.items()):
            if record.state is ReportState.REPORTED and (report := folder.report()) is not None:
                due_s = record.due_s or 0
                entry = ServiceEntry(
                    GRID_EVENT, f"{self._terms.site}/{name}", due_s * 1_000_000, report.log_entry
                )
                found.append((name, entry))
        return found

    def logged(self, name: str) -> None:
        """Note that the log has the report of an event.

        Raises:
            DiskFullError, UsageError: It cannot be written: it is logged again, which changes
                nothing.
        """
        folder, record = self._found[name]
        self._keep(name, folder, replace(record, state=ReportState.LOGGED))

    def _accept(self, held: WatchedEvent, now_s: float, rank: int) -> None:
        event = held.event
        record = EventRecord(
            held=event,
            event=event,
            accepted_s=now_s,
            stated_w=held.stated_w,
            rank=rank,
            interval_s=self._terms.interval_s(event),
            verdict=held.verdict,
        )
        folder = new_folder(self._folder, record)
        self._found[folder.name] = (folder, record)
        try:
            self._change(folder.name, record)
        except (DiskFullError, UsageError):
            del self._found[folder.name]
            raise

    def _change(self, name: str, record: EventRecord) -> None:
        """Keep a new or changed event, with its times and the inputs of its baseline."""
        folder = self._found[name][0]
        before_s = record.interval_s
        if not record.is_cancelled:
            record = replace(record, interval_s=self._terms.interval_s(record.event))
        if record.event.target is None:
            note = "cancelled before its start" if record.is_cancelled else "it sets no limit"
            self._keep(
                name, folder, replace(record, state=ReportState.NOTHING, times=None, note=note)
            )
            return
        try:
            times = times_of_record(record, self._terms)
        except UsageError as error:
            ended = replace(record, state=ReportState.NOTHING, times=None, note=str(error))
            self._keep(name, folder, ended)
            return
        record = replace(record, times=times, state=ReportState.WAITS, note="")
        inputs = Inputs(self._terms, self._history, self._others(name))
        before = folder.baseline()
        if before is None or record.interval_s != before_s:
            kept = fixed_baseline(record, times, inputs)
        else:
            kept = with_times(kept_of(before), record, times, inputs)
        folder.keep_baseline(kept.entry)
        self._keep(name, folder, record)

    def _made(self, name: str, now_s: float) -> bool:
        """Make a report; return whether that was possible."""
        if now_s < self._again_s.get(name, 0.0):
            return False
        try:
            self._make(name)
        except (DiskFullError, UsageError) as error:
            self._again_s[name] = now_s + AGAIN_S
            folder, record = self._found[name]
            if record.note != str(error):
                _log.warning("event %s: no report yet: %s", record.event.id, error)
            self._found[name] = (folder, replace(record, note=str(error)))
            return False
        return True

    def _make(self, name: str) -> None:
        folder, record = self._found[name]
        report = folder.report()
        if report is None:
            inputs = folder.baseline()
            if inputs is None:
                raise UsageError(f"{folder.path}: asked for the inputs of a baseline, found none")
            kept = kept_of(inputs)
            others = [each.event for other, (_, each) in self._found.items() if other != name]
            report = replace(
                report_of_record(record, kept, self._history, self._terms),
                beside=overlapping(record.event, others),
            )
            if self._metered is not None:
                report = with_meter(report, kept, self._metered)
            folder.keep_report(report, page_html(report))
        state = ReportState.REPORTED if self._has_ledger else ReportState.KEPT
        self._keep(name, folder, replace(record, state=state, note=""))
        _log.info("event %s: its report is %s", record.event.id, folder.page)

    def _keep(self, name: str, folder: EventFolder, record: EventRecord) -> None:
        folder.keep(record)
        self._found[name] = (folder, record)

    def _others(self, name: str) -> tuple[Span, ...]:
        """Return the times of all other events that asked for something."""
        return tuple(
            record.span
            for other, (_, record) in self._found.items()
            if other != name and record.event.target is not None
        )

    def _open_name(self, event: GridEvent, now_s: float) -> str | None:
        """Return the name of the event of this link and id that is not over."""
        key = event.source, event.id
        for name, (_, record) in self._found.items():
            before = record.event
            is_another = event.target is not None and event.starts_s >= before.ends_s
            is_open = record.state is ReportState.WAITS and not is_another
            if record.key == key and (
                is_open or (record.state is ReportState.NOTHING and now_s < before.ends_s)
            ):
                return name
        return None

    def _is_known(self, event: GridEvent) -> bool:
        """Return whether this is an event that has its report, or asked for nothing."""
        key = event.source, event.id
        return any(
            record.key == key
            and (event.issued_s <= record.held.issued_s or event.starts_s < record.event.ends_s)
            for _, record in self._found.values()
        )


def _events_in(folder: Path) -> Iterator[tuple[EventFolder, EventRecord]]:
    """Yield the events of a folder; one that cannot be read is a line in the log."""
    for each in event_folders(folder):
        try:
            yield each, each.record()
        except UsageError as error:
            _log.warning("%s", error)
