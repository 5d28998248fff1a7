"""When a report that an event asks for is due, and which intervals it is about. Pure.

Reports are made at the start of an interval, or at the end of the last one: the first at
`startInterval`, each further one `frequency` intervals later, `repeat` in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from steppe.grid.openadr.intervals import Timeline
from steppe.grid.openadr.messages import ReportDescriptor

MOST_INTERVALS = 400
"""Most intervals of one report."""


@dataclass(frozen=True, slots=True)
class DueReport:
    """A report that is due.

    Attributes:
        kind: Payload type.
        number: Which of those that the descriptor asks for; the first is 0.
        at_s: When it is due, s since the Unix epoch.
        spans: Start and end of each interval that it is about, s since the Unix epoch.
        is_forecast: Whether it is about intervals that begin then.
    """

    kind: str
    number: int
    at_s: float
    spans: tuple[tuple[float, float], ...]
    is_forecast: bool


def due_reports(
    asked: ReportDescriptor, times: Timeline, after_s: float, until_s: float
) -> tuple[DueReport, ...]:
    """Return the reports that are due after one time and until another.

    One about no interval is left out: there is nothing before the first. An event that has no end
    has no last interval: where that is asked for, its reports begin with the first one. A
    `frequency` of 0 asks for none on a schedule.

    Args:
        asked: What the event asks for.
        times: The intervals of the event.
        after_s: Start, s since the Unix epoch; what is due then is not returned.
        until_s: End, s since the Unix epoch; what is due then is.
    """
    return tuple(
        DueReport(asked.payloadType, number, at_s, spans, not asked.historical)
        for number, place in _places(asked, times, after_s, until_s)
        if after_s < (at_s := _time(times, place)) <= until_s
        and (spans := _spans(asked, times, place))
    )


def _places(
    asked: ReportDescriptor, times: Timeline, after_s: float, until_s: float
) -> Iterator[tuple[int, int]]:
    """Yield the number of each report that may be due, and of the interval at whose start it is."""
    count = times.count
    if asked.frequency == 0:
        return
    first = asked.startInterval
    if first < 0:
        first = 0 if count is None else count
    step = _step(asked, count)
    number = 0
    if step > 0 and after_s > times.round[0].starts_s:
        number = max(0, (times.before(after_s) - first) // step - 1)
    while asked.repeat < 0 or number < asked.repeat:
        place = first + number * step
        if (count is not None and place > count) or _time(times, place) > until_s:
            return
        yield number, place
        if step == 0:
            return
        number += 1


def _step(asked: ReportDescriptor, count: int | None) -> int:
    """Return how many intervals lie between two reports; 0 for a single report."""
    if asked.frequency > 0:
        return asked.frequency
    if asked.frequency < 0 and asked.numIntervals > 0:
        return asked.numIntervals
    return 0 if count is None else count


def _spans(asked: ReportDescriptor, times: Timeline, place: int) -> tuple[tuple[float, float], ...]:
    wanted = MOST_INTERVALS if asked.numIntervals < 0 else min(asked.numIntervals, MOST_INTERVALS)
    if asked.historical:
        return tuple(times.span(number) for number in range(max(0, place - wanted), place))
    last = place + wanted if times.count is None else min(place + wanted, times.count)
    return tuple(times.span(number) for number in range(place, last))


def _time(times: Timeline, place: int) -> float:
    """Return the start of an interval, or the end of the last one, s since the Unix epoch."""
    if times.count is not None and place >= times.count:
        return times.span(times.count - 1)[1]
    return times.span(place)[0]
