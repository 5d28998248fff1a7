"""Clocks that a test moves, and what a link may send at the present moment."""

from __future__ import annotations

from collections.abc import Callable

from steppe.grid.events.event import GridEvent, Watts
from steppe.grid.limits.limit import Limit, Link, Step
from steppe.grid.limits.limits import Limits
from steppe.grid.limits.steady_clock import SteadyClock

EPOCH_S = 1_800_000_000.0
LINK = Link("openadr", default_w=500.0, lost_s=60.0)


class World:
    """The clocks of a machine: true time, what the wall clock is wrong by, and the last boot."""

    def __init__(self) -> None:
        self.true_s = 1000.0
        self.wrong_s = 0.0
        self.booted_s = 0.0

    @property
    def wall_s(self) -> float:
        return EPOCH_S + self.true_s + self.wrong_s

    def clock(self) -> SteadyClock:
        """Return the clock of a process that starts now."""
        boot = f"boot at {self.booted_s}"
        return SteadyClock(lambda: self.wall_s, lambda: self.true_s - self.booted_s, boot)

    def limit(
        self,
        watts: float,
        *,
        name: str = "site",
        lasts_s: float | None = None,
        default_w: float = 300.0,
        issued_s: float = 0.0,
    ) -> Limit:
        """Return a limit from now on, sent `issued_s` after now."""
        now_s = self.wall_s
        ends_s = None if lasts_s is None else now_s + lasts_s
        steps = (Step(now_s, watts),)
        return Limit(name, LINK.name, now_s + issued_s, steps, ends_s, default_w)

    def event(self, *, name: str = "e1", watts: float = 100.0, in_s: float = 0.0) -> GridEvent:
        """Return an event with a ramp down of 10 s, a hold of 100 s and a ramp up of 20 s."""
        starts_s = self.wall_s + in_s
        return GridEvent(
            id=name,
            program="p",
            priority=0,
            issued_s=self.wall_s,
            starts_s=starts_s,
            ramp_down_s=10.0,
            hold_until_s=starts_s + 110.0,
            ramp_up_s=20.0,
            target=Watts(watts),
            kind="limit",
            source=LINK.name,
        )


Process = Callable[[], Limits]


def watts_of(limits: Limits, ahead_s: float = 0.0) -> float | None:
    """Return the watts in force; None if nothing limits the site."""
    found = limits.in_force(ahead_s)
    return None if found is None else found.watts
