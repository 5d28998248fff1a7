"""Sends the reports that events of an OpenADR server ask for, when they are due."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

from steppe.grid.offers.offer import FlexOffer
from steppe.grid.openadr.client import VtnError, VtnRefusedError
from steppe.grid.openadr.drawn import Drawn, RecentDraw
from steppe.grid.openadr.due import DueReport, due_reports
from steppe.grid.openadr.intervals import share_of, timeline
from steppe.grid.openadr.messages import Event, ReportDescriptor
from steppe.grid.openadr.reports import UNITS, Given, Span, report_of
from steppe.grid.renderings.openadr import available
from steppe.grid.service.links import OPENADR
from steppe.grid.service.seam import GridView

LEAST_SEEN = 0.95
"""A past interval of which a smaller share was seen is left out of a report."""
SETTLE_S = 2.0
"""How long after an interval it is reported, s: the last draw of it is known then."""
_AFTERWARDS_S = 60.0
_MOST_WAITING = 200
_OFFERED = ("LOAD_SHED_DELTA_AVAILABLE", "UP_REGULATION_AVAILABLE", "DOWN_REGULATION_AVAILABLE")

_log = logging.getLogger(__name__)


class SendsReports(Protocol):
    """The client of the server."""

    @property
    def events(self) -> tuple[Event, ...]:
        """The events that are followed."""
        ...

    async def report(self, body: dict[str, Any]) -> str:
        """Send a report. Raises VtnError if it is not taken."""
        ...


class Reporting:
    """Keeps what the site drew, and sends each report once.

    A report that does not reach the server is sent again at the next look. What was due before an
    event was first seen, or while this process was down, is not sent.

    Attributes:
        sent: How many reports were taken.
        problem: Why the last one was not; empty if it was.
    """

    def __init__(
        self, ven: SendsReports, name: str, offers: Callable[[GridView], Sequence[FlexOffer]]
    ) -> None:
        """Prepare.

        Args:
            ven: The client.
            name: Name of the client.
            offers: Returns what is offered.
        """
        self.sent, self.problem = 0, ""
        self._ven, self._name, self._offers = ven, name, offers
        self._draw = RecentDraw()
        self._events: dict[str, Event] = {}
        self._until_s: dict[str, float] = {}
        self._baselines_w: dict[str, float] = {}
        self._unknown: set[str] = set()
        self._waiting: deque[dict[str, Any]] = deque(maxlen=_MOST_WAITING)
        self._task: asyncio.Task[None] | None = None

    def see(self, view: GridView) -> None:
        """Note the draw, and send what is due in a task of its own."""
        self._note(view)
        self._follow(view.at_s)
        for event in self._events.values():
            for asked in event.reportDescriptors or ():
                self._waiting += self._bodies(event, asked, view)
            self._until_s[event.id] = view.at_s
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._send())

    async def stop(self) -> None:
        """Send no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _follow(self, now_s: float) -> None:
        """Take note of the events of now; one that has ended stays until its last report."""
        known = {event.id: event for event in self._ven.events}
        ended = {
            id_: event
            for id_, event in self._events.items()
            if id_ not in known and 0.0 <= now_s - self._ends_s(event) <= _AFTERWARDS_S
        }
        self._events = events = known | ended
        self._until_s = {id_: at_s for id_, at_s in self._until_s.items() if id_ in events}
        self._baselines_w = {id_: w for id_, w in self._baselines_w.items() if id_ in events}

    def _ends_s(self, event: Event) -> float:
        return timeline(event, share_of(self._name, event.id)).ends_s

    def _note(self, view: GridView) -> None:
        curtailed = view.in_force is not None and view.in_force.name.startswith(f"{OPENADR}/")
        for each in view.samples:
            self._draw.add(each.at_s, each.span_s, each.site_w, curtailed=curtailed)
        for now in view.events:
            if now.event.source == OPENADR:
                self._baselines_w.setdefault(now.event.id.split("/")[0], now.baseline_w)

    def _bodies(
        self, event: Event, asked: ReportDescriptor, view: GridView
    ) -> Iterable[dict[str, Any]]:
        """Return the reports that are due now."""
        if asked.payloadType not in UNITS:
            line = f"event {event.id} asks for a report of {asked.payloadType}, which is not given"
            if line not in self._unknown:
                self._unknown.add(line)
                _log.warning("OpenADR: %s", line)
            return
        times = timeline(event, share_of(self._name, event.id))
        after_s = self._until_s.get(event.id, view.at_s - 1.0)
        late_s = SETTLE_S if asked.historical else 0.0
        for due in due_reports(asked, times, after_s - late_s, view.at_s - late_s):
            spans = self._values(event, due, view)
            if spans:
                yield report_of(
                    event.id,
                    self._name,
                    cast("Given", due.kind),
                    spans,
                    reading=self._reading(due),
                    name=f"{due.kind} {due.number}",
                )

    def _values(self, event: Event, due: DueReport, view: GridView) -> list[Span]:
        if due.kind == "BASELINE":
            watts = self._baselines_w.get(event.id)
            return [] if watts is None else [Span(a, b - a, watts) for a, b in due.spans]
        if due.kind in _OFFERED:
            offers, kind = self._offers(view), cast("Given", due.kind)
            return [_left(offers, kind, a, b, view.at_s) for a, b in due.spans]
        if due.is_forecast:
            return []
        found = [(a, b, self._draw.drawn(a, b)) for a, b in due.spans]
        return [
            Span(a, b - a, _value(due.kind, drawn, b - a))
            for a, b, drawn in found
            if drawn is not None and drawn.seen_share >= LEAST_SEEN
        ]

    @staticmethod
    def _reading(due: DueReport) -> str:
        if due.kind in _OFFERED or due.is_forecast:
            return "FORECAST"
        # What the site draws is computed from that of its GPUs: no meter at the connection read it.
        return "DIRECT_READ" if due.kind == "OPERATING_STATE" else "ESTIMATED"

    async def _send(self) -> None:
        while self._waiting:
            body = self._waiting.popleft()
            try:
                await self._ven.report(body)
            except VtnError as error:
                if str(error) != self.problem:
                    _log.warning("OpenADR: a report of event %s: %s", body["eventID"], error)
                self.problem = str(error)
                if not _is_final(error):
                    self._waiting.appendleft(body)
                    return
            else:
                self.sent, self.problem = self.sent + 1, ""


def _left(
    offers: Sequence[FlexOffer], kind: Given, from_s: float, until_s: float, now_s: float
) -> Span:
    """Return what is available in a span, or in what is left of it."""
    begin_s = max(from_s, now_s) if now_s < until_s else from_s
    (found,) = available(offers, kind, begin_s, 1, until_s - begin_s)
    return Span(from_s, until_s - from_s, found.value)


def _is_final(error: VtnError) -> bool:
    """Whether the same report would be refused again."""
    status = error.status if isinstance(error, VtnRefusedError) else 0
    return status in {400, 404, 409, 422}


def _value(kind: str, drawn: Drawn, span_s: float) -> float | str:
    if kind == "USAGE":
        return drawn.energy_j
    if kind == "DEMAND":
        return drawn.energy_j / span_s
    return "RUNNING_CURTAILED" if drawn.curtailed_share > 0.5 else "RUNNING_NORMAL"
