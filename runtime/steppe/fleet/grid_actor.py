"""The actor that hosts the grid service of a run, and its way to the controller."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import ray

from steppe.fleet.cluster import error_line
from steppe.fleet.ledger_log import LedgerLog
from steppe.fleet.service_actor import Service, ServiceActor
from steppe.grid.service.seam import Change, FleetAwayError, FleetLimits, FleetPoints, GridView
from steppe.ledger.entry_log import EntryLog

TIMEOUT_S = 5.0
"""Longest wait for an answer of the controller, s."""


class MakesGrid(Protocol):
    """Makes the grid service."""

    def __call__(self, settings: Any, limits: FleetLimits, *, log: EntryLog | None) -> Service:
        """Return the service, which is not started."""
        ...


class ControllerLimits:
    """The limits in the controller of a run, which is found by its name."""

    def __init__(self, run_id: str) -> None:
        """Name the run; its controller may start later."""
        self._prefix = f"steppe-controller-{run_id}-"
        self._actor: Any = None

    async def take(self, changes: Sequence[Change]) -> list[str]:
        """Make changes, as `FleetLimits.take` does."""
        answers: list[str] = await self._ask("grid_take", list(changes))
        return answers

    async def view(self, after: int) -> GridView:
        """Return what is known now, as `FleetLimits.view` does."""
        found: GridView = await self._ask("grid_view", after)
        return found

    async def points(self) -> FleetPoints | None:
        """Return what the fleet can do, as `FleetLimits.points` does."""
        found: FleetPoints | None = await self._ask("grid_points")
        return found

    async def _ask(self, method: str, *values: Any) -> Any:
        """Call a method of the controller.

        A call that takes too long may still be carried out: all changes may be made twice.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._actor is None:
                    self._actor = await asyncio.to_thread(self._find)
                return await getattr(self._actor, method).remote(*values)
        except TimeoutError as error:
            self._actor = None
            raise FleetAwayError("the controller does not answer in time") from error
        except (ray.exceptions.RayError, ValueError) as error:
            self._actor = None
            problem = f"the controller does not answer: {error_line(error)}"
            raise FleetAwayError(problem) from error

    def _find(self) -> Any:
        """Return the actor.

        Raises:
            FleetAwayError: There is none yet.
            ValueError: It has ended.
        """
        names = [name for name in ray.util.list_named_actors() if name.startswith(self._prefix)]
        if not names:
            raise FleetAwayError("the controller of the run has not started yet")
        return ray.get_actor(names[-1])


class GridActor(ServiceActor):
    """Hosts the grid service in a process of its own."""

    def __init__(self, make: MakesGrid, settings: Any) -> None:
        """Make the service, `make(settings, limits, log=log)`; `open` starts it."""

        def made(given: Any) -> Service:
            log = LedgerLog(given.run_id) if given.has_ledger else None
            return make(given, ControllerLimits(given.run_id), log=log)

        super().__init__(made, settings)
