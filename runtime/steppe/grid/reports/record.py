"""What is kept of an event from the moment it was accepted until its report is in the log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, floor

from steppe.grid.events.event import GridEvent
from steppe.grid.verify.times import EventTimes, Span


class ReportState(StrEnum):
    """How far an event is."""

    WAITS = "waits"
    """It was accepted, and its report is not due."""
    REPORTED = "reported"
    """Its report is made, and not in the log yet."""
    LOGGED = "logged"
    """Its report is in the log of the ledger."""
    KEPT = "kept"
    """Its report is made; there is no ledger."""
    NOTHING = "nothing"
    """It asked for nothing that is measured; `note` says why."""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event, as it is kept.

    Attributes:
        held: Its newest version, as the limits hold it.
        event: The same; of one that was cancelled, with the hold that it had.
        accepted_s: When its first version was seen, s since the Unix epoch.
        stated_w: The baseline that the controller stated then, W.
        rank: Where the energy of the site was from then, its place in `ENERGY_SOURCES`.
        interval_s: Length of an interval of its settlement, s.
        state: How far it is.
        times: When it is, in whole intervals; None if nothing of it is measured.
        note: Why nothing is measured, or what went wrong with its report; empty if nothing did.
        is_cancelled: Whether it was cancelled.
        verdict: What was said of it before its start: empty if it can be kept, else why not.
    """

    held: GridEvent
    event: GridEvent
    accepted_s: float
    stated_w: float
    rank: int
    interval_s: int
    state: ReportState = ReportState.WAITS
    times: EventTimes | None = None
    note: str = ""
    is_cancelled: bool = False
    verdict: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What names it while it is held."""
        return self.event.source, self.event.id

    @property
    def span(self) -> Span:
        """The time of it that is no usual draw."""
        event = self.event
        return Span(floor(event.starts_s), max(ceil(event.ends_s), floor(event.starts_s) + 1))

    @property
    def acts(self) -> bool:
        """Whether it asked for anything."""
        return self.event.target is not None

    @property
    def due_s(self) -> int | None:
        """When all that its report looks at is over, s since the Unix epoch; None for nothing."""
        return None if self.times is None else self.times.end_s + self.times.after_s


def newer_version(record: EventRecord, held: GridEvent, now_s: float) -> EventRecord:
    """Return the record of an event with a newer version of it.

    A cancelled event keeps the start that it had, and ends its hold when it was cancelled.

    Args:
        record: The record.
        held: The newer version, as the limits hold it.
        now_s: The present, s since the Unix epoch.
    """
    before = record.event
    if before.target is not None and held.target is None:
        if before.starts_s <= now_s:  # taken back after its end
            return replace(record, held=held)
        return replace(record, held=held, event=held, is_cancelled=True)
    is_cut = held.starts_s == held.hold_until_s and held.ramp_down_s == 0
    if is_cut and before.target is not None and before.starts_s < held.starts_s:
        cut = replace(
            before,
            issued_s=held.issued_s,
            ramp_down_s=min(before.ramp_down_s, held.hold_until_s - before.starts_s),
            hold_until_s=min(before.hold_until_s, held.hold_until_s),
            ramp_up_s=held.ramp_up_s,
        )
        return replace(record, held=held, event=cut, is_cancelled=True)
    return replace(record, held=held, event=held)
