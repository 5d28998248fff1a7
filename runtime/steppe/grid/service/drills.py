"""Drills: events that the configuration names, which the site gives itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steppe.config import DrillSection
from steppe.grid.events.event import GridEvent, Share, Target, Watts
from steppe.grid.service.links import DRILL
from steppe.grid.service.seam import FleetLimits, GridView, PutEvent


def drill_events(drills: Sequence[DrillSection], began_s: float) -> tuple[GridEvent, ...]:
    """Return the drills as events; each was issued when it is announced.

    Args:
        drills: The drills.
        began_s: When the run began, s since the Unix epoch.
    """
    return tuple(_event(number, each, began_s) for number, each in enumerate(drills, start=1))


def _event(number: int, drill: DrillSection, began_s: float) -> GridEvent:
    announced_s = began_s + drill.after_s
    starts_s = announced_s + drill.notice_s
    return GridEvent(
        id=f"drill-{number}",
        program="drill",
        priority=drill.priority,
        issued_s=announced_s,
        starts_s=starts_s,
        ramp_down_s=drill.ramp_down_s,
        hold_until_s=starts_s + drill.ramp_down_s + drill.hold_s,
        ramp_up_s=drill.ramp_up_s,
        target=_target(drill),
        kind="setpoint" if drill.share is None else "relative",
        source=DRILL,
        settle_s=drill.settle_s,
    )


def _target(drill: DrillSection) -> Target:
    if drill.share is not None:
        return Share(drill.share)
    assert drill.watts is not None, "a drill has one of both"
    return Watts(drill.watts)


class Drills:
    """Announces each drill once, when it is due.

    A service that starts anew announces those again that are not over. They are the same events,
    so this changes nothing; one that an operator has cancelled is refused.
    """

    name = DRILL

    def __init__(self, limits: FleetLimits, drills: Sequence[DrillSection], began_s: float) -> None:
        """Prepare.

        Args:
            limits: The limits of the fleet.
            drills: The drills.
            began_s: When the run began, s since the Unix epoch.
        """
        self._limits = limits
        self._events = drill_events(drills, began_s)
        self._announced: set[str] = set()

    @property
    def shown(self) -> Mapping[str, Any]:
        """How many drills there are, and how many were announced."""
        return {"drills": len(self._events), "announced": len(self._announced)}

    async def start(self) -> None:
        """Begin."""

    async def see(self, view: GridView) -> None:
        """Announce what is due."""
        due = [
            event
            for event in self._events
            if event.id not in self._announced and event.issued_s <= view.at_s < event.ends_s
        ]
        if due:
            await self._limits.take([PutEvent(event) for event in due])
            self._announced.update(event.id for event in due)

    async def stop(self) -> None:
        """End."""
