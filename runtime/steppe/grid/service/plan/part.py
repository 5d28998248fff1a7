"""Plans each step of the market, hands over the limits, and settles each step that is over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from steppe.errors import SteppeError, UsageError
from steppe.grid.openadr.translation import Rate
from steppe.grid.plan.day import local
from steppe.grid.plan.series import Times
from steppe.grid.plan.series_file import zone_of
from steppe.grid.service.links import PLAN
from steppe.grid.service.plan.book import Book, read_book, write_book
from steppe.grid.service.plan.imbalance import (
    IMBALANCE_FILE,
    DrawHistory,
    SettledStep,
    append_line,
    price_of,
)
from steppe.grid.service.plan.live import DAY_AHEAD, LivePlanner, Made, check_run
from steppe.grid.service.plan.step_meter import MeteredStep, StepMeter
from steppe.grid.service.seam import (
    Change,
    FleetLimits,
    FleetPoints,
    GridView,
    Lift,
    PutLimit,
    Repeated,
)
from steppe.grid.service.settings import GridSettings

BOOK_FILE = "plan.json"
RETRY_S = 60.0
"""Time until a plan that failed is tried again, s."""

_log = logging.getLogger(__name__)


class PlanPart:
    """The plan of the markets of a run.

    It is advice: where it fails, its link is lost after two steps, and then nothing of it holds, or
    `grid.plan.default_w` does.
    """

    name = PLAN

    def __init__(
        self,
        settings: GridSettings,
        limits: FleetLimits,
        rates: Callable[[], Sequence[Rate]] = tuple,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Prepare.

        Args:
            settings: How the service is set up, with a plan.
            limits: The limits of the fleet.
            rates: Returns the prices that OpenADR events state.
            now_s: Reads the time, s since the Unix epoch.

        Raises:
            UsageError: The run cannot be planned.
        """
        section, run = settings.section.plan, settings.run
        assert section is not None, "there is a plan"
        assert run is not None, "the service has the configuration of a run with a plan"
        check_run(run, section)
        self._section, self._folder, self._limits = section, settings.folder, limits
        self._rates, self._now_s = rates, now_s
        self._planner = LivePlanner(run, section, settings.began_s, now_s)
        self._zone = zone_of(section.zone)
        self._meter = StepMeter(section.step_s)
        self._book = Book(section.step_s)
        self._history = DrawHistory()
        self._made: Made | None = None
        self._task: asyncio.Task[None] | None = None
        self._due_s = 0.0
        self._problem = "no plan yet"
        self._last: dict[str, Any] | None = None
        self._amount_micro = 0

    @property
    def shown(self) -> Mapping[str, Any]:
        """What the plan is, what it has bought, and what the last step cost."""
        made, step_s = self._made, self._section.step_s
        begins_s = self._now_s() - self._now_s() % step_s
        return {
            "problem": self._problem,
            "planned": None if made is None else self._text(made.intraday.times.from_s),
            "prices_until": None if made is None else self._text(made.prices.per_j.ends_s),
            "day_ahead_bought_until": self._bought_until(),
            "position_w": self._book.watts(begins_s),
            "last_step": self._last,
            "imbalance_amount_micro": self._amount_micro,
            "currency": "" if made is None else made.prices.currency,
        }

    async def start(self) -> None:
        """Read what was bought before; what cannot be read counts as nothing."""
        step_s = self._section.step_s
        try:
            self._book = await asyncio.to_thread(read_book, self._folder / BOOK_FILE, step_s)
        except UsageError as error:
            _log.warning("plan: %s: nothing counts as bought", error)
        path = self._folder / IMBALANCE_FILE
        self._history = await asyncio.to_thread(DrawHistory.read, path)

    async def see(self, view: GridView) -> None:
        """Settle the steps that are over, and begin a plan where one is due."""
        for step in self._meter.add(view.samples):
            await self._settle(step)
        if self._now_s() >= self._due_s and (self._task is None or self._task.done()):
            self._due_s = self._now_s() + RETRY_S
            self._task = asyncio.create_task(self._plan())

    async def stop(self) -> None:
        """Plan no more; what was handed over holds until the link is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def planned(self) -> None:
        """Wait until the plan that was begun is made."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _plan(self) -> None:
        now_s, step_s = self._now_s(), self._section.step_s
        problem = ""
        try:
            points = await self._limits.points()
            if points is None:
                problem = "the operating points of the fleet are not known yet"
            else:
                problem = await self._handed_over(points)
        except (SteppeError, OSError) as error:
            problem = str(error) or type(error).__name__
        if problem and problem != self._problem:
            _log.warning("plan: %s", problem)
        self._problem = problem
        next_s = now_s - now_s % step_s + step_s
        self._due_s = min(next_s, now_s + RETRY_S) if problem else next_s

    async def _handed_over(self, points: FleetPoints) -> str:
        """Make the plan, keep what it buys, and hand its limits over; return what is wrong."""
        made = await asyncio.to_thread(
            self._planner.made, points, self._book, self._history, self._rates()
        )
        await asyncio.to_thread(write_book, self._folder / BOOK_FILE, made.book)
        self._made, self._book = made, made.book
        changes: list[Change] = [PutLimit(limit) for limit in made.limits]
        if made.lifts_day_ahead:
            changes.append(Lift(PLAN, DAY_AHEAD, made.limits[0].issued_s))
        answers = await self._limits.take([*changes, Repeated(PLAN)])
        return next((line for line in answers[: len(made.limits)] if line), "")

    async def _settle(self, metered: MeteredStep) -> None:
        """Write what a step cost, once: a service that starts again sees the last ticks again."""
        if self._history.has(metered.begins_s):
            return
        self._history.add(metered.begins_s, metered.draw_w)
        if self._made is None:
            return
        step_s, market = self._section.step_s, self._made.market
        times = Times(metered.begins_s, step_s, 1)
        renewable_w = market.supplied_w(times)[0]
        per_j = self._made.prices.per_j.mean(times.from_s, times.ends_s)
        grid_w = max(metered.draw_w - renewable_w, -self._section.export_limit_w)
        settled = SettledStep(
            metered=metered,
            position_w=self._book.watts(metered.begins_s),
            renewable_w=renewable_w,
            grid_w=grid_w,
            price=price_of(per_j),
            spread=self._section.imbalance_spread,
            currency=self._made.prices.currency,
        )
        line = settled.document(step_s, self._zone)
        await asyncio.to_thread(append_line, self._folder / IMBALANCE_FILE, line)
        self._last = line
        self._amount_micro += settled.amount_micro(step_s) or 0

    def _bought_until(self) -> str | None:
        position = self._book.position()
        return None if position is None else self._text(position.ends_s)

    def _text(self, at_s: float) -> str:
        return local(at_s, self._zone).isoformat()
