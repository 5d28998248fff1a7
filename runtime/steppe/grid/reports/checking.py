"""Whether the events in a folder hold: each report is made again from its rows and kept inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from steppe.errors import UsageError
from steppe.grid.reports.event_folder import EventFolder
from steppe.grid.reports.making import promised_of
from steppe.grid.reports.record import EventRecord, ReportState
from steppe.grid.verify.audit import faults_of, kept_of
from steppe.grid.verify.page import page_html
from steppe.grid.verify.report import EventReport
from steppe.grid.verify.stated import ControlGroup


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """What the check of one event found.

    Attributes:
        folder: Its folder.
        record: The event; None if it cannot be read.
        report: Its report; None without one.
        faults: What does not hold, a line each.
        note: What could not be checked; empty if all could.
    """

    folder: EventFolder
    record: EventRecord | None
    report: EventReport | None = None
    faults: tuple[str, ...] = ()
    note: str = ""


def checked_event(folder: EventFolder, logged: Collection[bytes] | None) -> CheckedEvent:
    """Return what the check of an event finds.

    Args:
        folder: Its folder.
        logged: The entries of events in the log; None if there is no log to compare with.
    """
    record: EventRecord | None = None
    try:
        record = folder.record()
        report = folder.report()
        if report is None:
            return CheckedEvent(folder, record, note=_without_report(record))
        inputs = folder.baseline()
        if inputs is None:
            raise UsageError("inputs of the baseline: asked for them, found none")
        faults = (*faults_of(report, inputs), *_faults_beside(folder, record, report, inputs))
    except UsageError as error:
        return CheckedEvent(folder, record, faults=(str(error),))
    note = ""
    if logged is None:
        note = "found no ledger to compare it with"
    elif report.log_entry not in logged:
        if record.state is ReportState.LOGGED:
            faults = (*faults, "log: asked for its entry, found none with these bytes")
        note = "its entry is not in the log yet"
    return CheckedEvent(folder, record, report, faults, note)


def _faults_beside(
    folder: EventFolder, record: EventRecord, report: EventReport, inputs: bytes
) -> Iterator[str]:
    """Yield what differs from the record and the page."""
    event, asked = record.event, report.asked
    if record.times != report.times:
        yield f"times: asked for those of the event, {record.times}, found {report.times}"
    if (asked.id, asked.source) != (event.id, event.source) and event.id.isascii():
        yield f"event: asked for {event.source}/{event.id}, found {asked.source}/{asked.id}"
    kept = kept_of(inputs)
    if not isinstance(kept, ControlGroup) and record.times is not None:
        promised = promised_of(record, kept, record.times)
        if promised != tuple(row.committed_w for row in report.rows):
            yield "promised: asked for what the event asks of this baseline, found another promise"
    if not folder.page.exists() or folder.page.read_text("utf-8") != page_html(report):
        yield f"{folder.page.name}: asked for the page of this report, found another one"


def _without_report(record: EventRecord) -> str:
    match record.state:
        case ReportState.WAITS:
            return record.note or "its report is not due yet"
        case ReportState.NOTHING:
            return record.note
        case _:
            return "its report is missing"
