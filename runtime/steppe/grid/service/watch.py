"""Shows the site to all parts of the service, once a second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from steppe.errors import SteppeError
from steppe.grid.service.part import Part
from steppe.grid.service.seam import FleetAwayError, FleetLimits, GridView

PERIOD_S = 1.0
"""Time between two looks, s."""
AGAIN_S = 10.0
"""Pause after a look that failed by an error of a part, s."""

_log = logging.getLogger(__name__)


class Watch:
    """Asks the controller, and shows the answer to each part, one after the other.

    Attributes:
        view: What was seen last; None before the first answer.
        away: Why the controller does not answer now; empty if it does.
    """

    def __init__(
        self,
        limits: FleetLimits,
        parts: Sequence[Part],
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
        again_s: float = AGAIN_S,
    ) -> None:
        """Prepare.

        Args:
            limits: The limits of the fleet.
            parts: The parts.
            period_s: Time between two looks, s.
            clock: Reads the monotonic clock, s.
            again_s: Pause after a look that failed by an error of a part, s.
        """
        self.view: GridView | None = None
        self.away = "the controller has not been asked yet"
        self._limits, self._parts = limits, parts
        self._period_s, self._clock, self._again_s = period_s, clock, again_s
        self._after = 0
        self._problems: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None

    @property
    def problems(self) -> dict[str, str]:
        """Why parts could not take note of the last view, by name; none of those that could."""
        return dict(self._problems)

    def start(self) -> None:
        """Look from now on."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Look no more."""
        if self._again is not None:
            self._again.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def look(self) -> None:
        """Look once."""
        try:
            view = await self._limits.view(self._after)
        except FleetAwayError as error:
            if self.view is not None and not self.away:
                _log.warning("%s", error)
            self.away = str(error)
            return
        self.view, self.away = view, ""
        # a restarted controller may count anew
        self._after = view.samples[-1].number if view.samples else self._after
        for part in self._parts:
            await self._show(part, view)

    async def _show(self, part: Part, view: GridView) -> None:
        problem = ""
        try:
            await part.see(view)
        except (SteppeError, OSError) as error:
            problem = str(error) or type(error).__name__
        if problem and problem != self._problems.get(part.name):
            _log.warning("%s: %s", part.name, problem)
        self._problems.pop(part.name, None)
        if problem:
            self._problems[part.name] = problem

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Begin anew after an error that is not one of Steppe.

        Until then no part sees the site, so links may count as lost.
        """
        if task.cancelled() or (error := task.exception()) is None:
            return
        self.away = f"the service has failed: {error!r}"
        _log.error("the parts of the grid see nothing: %s", self.away, exc_info=error)
        self._again = asyncio.get_running_loop().call_later(self._again_s, self.start)

    async def _run(self) -> None:
        due_s = self._clock()
        while True:
            await self.look()
            due_s = max(due_s + self._period_s, self._clock())
            await asyncio.sleep(due_s - self._clock())
