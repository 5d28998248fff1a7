"""The limits and events of a site, what it draws, and whether it can comply."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from steppe.errors import SteppeError
from steppe.grid.controller.draws import Draws
from steppe.grid.controller.verdicts import Verdicts
from steppe.grid.events.comply import CannotComply
from steppe.grid.limits.held import EventTarget, InForce
from steppe.grid.limits.limits import Limits
from steppe.grid.offers.sources import Source
from steppe.grid.service.seam import (
    Cancel,
    Change,
    EventNow,
    GridView,
    Heard,
    Lift,
    PutEvent,
    PutLimit,
    Repeated,
)
from steppe.power.budget import Budget
from steppe.report.records import GridTick

BAND = 0.02
"""An event is complied with while the draw is at most this share above what it allows."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """What was asked when a window began.

    Attributes:
        in_force: The limit in force; None without one.
        events: The events that were held.
    """

    in_force: InForce | None
    events: tuple[EventTarget, ...]

    @property
    def in_event(self) -> bool:
        """Whether an event ran."""
        return any(each.watts is not None for each in self.events)

    @property
    def first(self) -> EventTarget | None:
        """The event that allowed the least; if none ran, the next one."""
        running = [each for each in self.events if each.watts is not None]
        if running:
            return min(running, key=lambda each: (each.watts or 0.0, each.event.priority))
        coming = [each for each in self.events if each.at_s < each.event.starts_s]
        return min(coming, key=lambda each: each.event.starts_s - each.at_s, default=None)


class SiteGrid:
    """What the controller of a fleet holds of the grid.

    Methods may be called from any thread. `take` may wait for the disk, the others do not.

    Attributes:
        energy_source: Where the figures of the draw come from.
    """

    def __init__(
        self, limits: Limits, baseline_s: float, after: int = 0, energy_source: str = ""
    ) -> None:
        """Begin without a tick.

        Args:
            limits: The limits.
            baseline_s: How far back the baseline of an event looks, s.
            after: The number before that of the first tick, see `Draws`.
            energy_source: Where the figures of the draw come from.
        """
        self.energy_source = energy_source
        self._limits, self._baseline_s = limits, baseline_s
        self._lock = threading.Lock()
        self._draws, self._verdicts = Draws(after), Verdicts()
        self._sources: tuple[Source, ...] | None = None
        self._budget: Budget | None = None
        self._draw_w: float | None = None
        self._begun = _Begun(None, ())

    def begin(self, draw_w: float) -> None:
        """Begin the first window.

        Args:
            draw_w: Draw of the site now, W.
        """
        with self._lock:
            self._draw_w = draw_w
            self._begun = self._present()

    def take(self, changes: Sequence[Change]) -> list[str]:
        """Make changes in their order; return a line for each: empty, or why it is refused.

        A change that could not be written down holds all the same, see `Limits`.
        """
        refusals = [self._take(change) for change in changes]
        if any(isinstance(change, PutEvent) for change in changes):
            with self._lock:
                self._judge()
        return refusals

    def view(self, after: int) -> GridView:
        """Return what is known now.

        Args:
            after: Number of the last sample that the caller has; 0 for none.
        """
        limits = self._limits
        with self._lock:
            budget, draw_w = self._budget, self._draw_w
            return GridView(
                at_s=limits.now().wall_s,
                in_force=limits.in_force(),
                budget_w=None if budget is None else budget.site_budget_w,
                budget_source="" if budget is None else budget.source,
                draw_w=draw_w,
                energy_source=self.energy_source,
                events=tuple(self._event_now(each) for each in limits.events()),
                lost=limits.lost,
                samples=self._draws.since(after),
                sources=self._sources or (),
                limits=limits.limits,
            )

    def judge(self, sources: tuple[Source, ...]) -> None:
        """Judge whether the site can comply.

        Args:
            sources: Where its flexibility comes from now.
        """
        with self._lock:
            self._sources = sources
            self._judge()

    def tick(self, budget: Budget, span_s: float) -> GridTick | None:
        """End a window and begin the next one; return its record, None if nothing was asked.

        Args:
            budget: The budget at its end, which has the mean draw of the site.
            span_s: Its length, s.
        """
        with self._lock:
            begun, site_w = self._begun, budget.settled.site_w
            self._begun = self._present()
            in_event = begun.in_event or self._begun.in_event
            self._draws.add(
                self._limits.now().wall_s, site_w, span_s, self.energy_source, in_event=in_event
            )
            self._budget, self._draw_w = budget, site_w
            return self._record(begun, site_w, span_s)

    def status(self) -> dict[str, Any]:
        """Return what the status call of the gateway says."""
        in_force = self._limits.in_force()
        with self._lock:
            events = [self._event_now(each) for each in self._limits.events()]
        return {
            "limit": None if in_force is None else in_force.name,
            "limit_w": None if in_force is None else in_force.watts,
            "lost": list(self._limits.lost),
            "events": [_shown(each) for each in events],
        }

    def lost_links(self) -> dict[str, bool]:
        """Return whether each link is lost or was not heard yet, by its name."""
        lost = self._limits.lost
        return {link: link in lost for link in self._limits.links}

    def _take(self, change: Change) -> str:
        limits = self._limits
        try:
            match change:
                case PutLimit(limit):
                    limits.put(limit)
                case PutEvent(event):
                    limits.put_event(event, self._baseline_w())
                case Lift(link, name, issued_s):
                    limits.lift(link, name, issued_s)
                case Cancel(link, event_id, issued_s):
                    limits.cancel(link, event_id, issued_s)
                case Heard(link):
                    limits.heard(link)
                case Repeated(link):
                    limits.repeated(link)
                case _:
                    assert_never(change)
        except SteppeError as error:
            return str(error)
        return ""

    def _baseline_w(self) -> float:
        """Return what the site would draw without events, W.

        Where an event has limited it all the while, that is the baseline of the latest one.
        """
        running = [each for each in self._limits.events() if each.watts is not None]
        with self._lock:
            assert self._draw_w is not None, "begin comes first"
            found = self._draws.baseline_w(self._baseline_s)
            if found is not None:
                return found
            latest = max(running, key=lambda each: each.event.starts_s, default=None)
            return self._draw_w if latest is None else latest.baseline_w

    def _present(self) -> _Begun:
        return _Begun(self._limits.in_force(), self._limits.events())

    def _judge(self) -> None:
        self._verdicts.judge(self._limits.events(), self._sources, self._draw_w or 0.0)

    def _event_now(self, asked: EventTarget) -> EventNow:
        draw_w = asked.baseline_w if self._draw_w is None else self._draw_w
        return EventNow(
            event=asked.event,
            baseline_w=asked.baseline_w,
            target_w=asked.watts,
            delivered_w=asked.baseline_w - draw_w,
            verdict=self._verdicts.of(asked),
        )

    def _record(self, begun: _Begun, site_w: float, span_s: float) -> GridTick | None:
        in_force, first = begun.in_force, begun.first
        if in_force is None and first is None:
            return None
        tick = GridTick(
            limit="" if in_force is None else in_force.name,
            limit_w=None if in_force is None else in_force.watts,
        )
        if first is None:
            return tick
        verdict = self._verdicts.of(first)
        cannot = isinstance(verdict, CannotComply)
        allowed_w = first.watts
        return GridTick(
            limit=tick.limit,
            limit_w=tick.limit_w,
            event=f"{first.event.source}/{first.event.id}",
            target_w=allowed_w,
            baseline_w=first.baseline_w,
            delivered_w=None if allowed_w is None else first.baseline_w - site_w,
            complies=not cannot if allowed_w is None else site_w <= (1 + BAND) * allowed_w,
            reason=verdict.reason if isinstance(verdict, CannotComply) else "",
            hold_w=first.event.target_w(first.baseline_w),
            begins_in_s=max(0.0, first.event.starts_s - first.at_s - span_s),
            ends_in_s=max(0.0, first.event.ends_s - first.at_s - span_s),
        )


def _shown(now: EventNow) -> dict[str, Any]:
    event, verdict = now.event, now.verdict
    cannot = isinstance(verdict, CannotComply)
    return {
        "id": event.id,
        "link": event.source,
        "program": event.program,
        "priority": event.priority,
        "starts_s": event.starts_s,
        "hold_until_s": event.hold_until_s,
        "ends_s": event.ends_s,
        "hold_w": event.target_w(now.baseline_w),
        "baseline_w": now.baseline_w,
        "target_w": now.target_w,
        "delivered_w": None if now.target_w is None else now.delivered_w,
        "can_comply": not cannot,
        "reason": verdict.reason if isinstance(verdict, CannotComply) else "",
    }
