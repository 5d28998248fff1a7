"""Drills: events that the configuration names, which the site gives itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steppe.config import DrillSection
from steppe.disk import disk_errors
from steppe.grid.events.event import GridEvent, Share, Target, Watts
from steppe.grid.service.links import DRILL
from steppe.grid.service.seam import FleetLimits, GridView, PutEvent

DRILLS_FILE = "drills.json"
"""The file with the start of the drills, in the folder of the grid."""


def drill_events(drills: Sequence[DrillSection], began_s: float) -> tuple[GridEvent, ...]:
    """Return the drills as events; each was issued when it is announced.

    Args:
        drills: The drills.
        began_s: When the fleet began to serve, s since the Unix epoch.
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

    They count from the first view of the fleet, which is kept in a file. A service that starts
    anew announces those again that are not over. They are the same events, so this changes nothing;
    one that an operator has cancelled is refused.
    """

    name = DRILL

    def __init__(
        self, limits: FleetLimits, drills: Sequence[DrillSection], run_id: str, folder: Path
    ) -> None:
        """Prepare.

        Args:
            limits: The limits of the fleet.
            drills: The drills.
            run_id: Name of the run: each run has its drills.
            folder: Folder in which their start is kept.
        """
        self._limits, self._drills = limits, drills
        self._run_id, self._path = run_id, folder / DRILLS_FILE
        self._events: tuple[GridEvent, ...] | None = None
        self._announced: set[str] = set()

    @property
    def shown(self) -> Mapping[str, Any]:
        """How many drills there are, and how many were announced."""
        return {"drills": len(self._drills), "announced": len(self._announced)}

    async def start(self) -> None:
        """Begin."""

    async def see(self, view: GridView) -> None:
        """Announce what is due.

        Raises:
            DiskFullError, UsageError: The start cannot be kept.
        """
        if self._events is None:
            self._events = drill_events(self._drills, self._began_s(view.at_s))
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

    def _began_s(self, now_s: float) -> float:
        """Return when the fleet of this run was first seen, s since the Unix epoch; keep it."""
        try:
            kept = json.loads(self._path.read_text())
            if kept["run"] == self._run_id:
                return float(kept["began_s"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none was kept, or it cannot be read: the drills begin now
        with disk_errors(self._path):
            self._path.write_text(json.dumps({"run": self._run_id, "began_s": now_s}))
        return now_s
