"""The grid of a simulated run: its drills go to the same limits as those of a live controller."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from steppe.config import PlanSection, RunConfig
from steppe.config.section import LARGEST
from steppe.control.state import Observation
from steppe.errors import ConfigError
from steppe.grid.controller.known_pools import KnownPool, sources_now
from steppe.grid.controller.site_grid import SiteGrid
from steppe.grid.limits.limit import Link
from steppe.grid.limits.limits import Limits
from steppe.grid.limits.signal import LimitSignal
from steppe.grid.limits.steady_clock import SteadyClock
from steppe.grid.plan.market_site import Fleet
from steppe.grid.service.drills import drill_events
from steppe.grid.service.links import DRILL, LIMITS_FILE
from steppe.grid.service.seam import Change, PutEvent, PutLimit
from steppe.power.budget import Budget, PowerBudget
from steppe.report.records import GridTick
from steppe.sim.events import EventQueue
from steppe.sim.grid_plan import plan_link, planned_limit
from steppe.sim.request import ENERGY_SOURCE

_log = logging.getLogger(__name__)

BEGAN_S = 946_684_800.0
"""When a simulated run begins, s since the Unix epoch: 1 January 2000."""
JUDGE_S = 5.0
"""Time between two looks at whether the site can comply, s."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What the grid asks at a time.

    Attributes:
        at_s: When it is heard, s since the run began.
        change: A limit or an event. The run begins at `BEGAN_S`.
    """

    at_s: float
    change: Change


@dataclass(frozen=True, slots=True)
class GridScenario:
    """What the grid asks of a run.

    Attributes:
        config: The run.
        pools: What is known of its pools, by name.
        asked: What the grid asks, and when.
    """

    config: RunConfig
    pools: Mapping[str, KnownPool]
    asked: tuple[Announced, ...]

    @classmethod
    def of(
        cls, config: RunConfig, pools: Mapping[str, KnownPool], fleet: Fleet | None = None
    ) -> GridScenario | None:
        """Return the drills and the plan of a configuration; None without a grid.

        Args:
            config: The run.
            pools: What is known of its pools, by name.
            fleet: The fleet of a run of one model; None with several.

        Raises:
            ConfigError: It has a plan, and several models, no date, or no connection to the grid.
            UsageError: There are no prices of its days, or a file cannot be read.
        """
        if config.grid is None:
            return None
        events = drill_events(config.grid.drills, BEGAN_S)
        asked = [Announced(each.issued_s - BEGAN_S, PutEvent(each)) for each in events]
        if config.grid.plan is not None:
            asked += _planned(config, config.grid.plan, fleet)
        return cls(config, pools, tuple(asked))


def _planned(config: RunConfig, section: PlanSection, fleet: Fleet | None) -> list[Announced]:
    """Return the plan of a run as a limit that is handed over in each step."""
    if fleet is None:
        raise ConfigError(f"grid.plan: asked for a run of one model, found {len(config.models)}")
    limit, every_s = planned_limit(config, section, fleet, BEGAN_S)
    times = math.ceil(config.sim.duration_s / every_s)
    return [Announced(number * every_s, PutLimit(limit)) for number in range(times)]


class SimulatedGrid:
    """What the controller holds of the grid, in virtual time."""

    def __init__(self, scenario: GridScenario, budget: PowerBudget, queue: EventQueue) -> None:
        """Begin without an event, and let the limits apply to the budget.

        Args:
            scenario: What the grid asks.
            budget: The power budget.
            queue: Virtual time.
        """
        assert scenario.config.grid is not None, "a scenario of the grid has its section"
        self._scenario, self._queue = scenario, queue
        self._folder = tempfile.TemporaryDirectory(prefix="steppe-grid-")
        clock = SteadyClock(
            wall_s=lambda: BEGAN_S + queue.now_s, boot_s=lambda: queue.now_s, boot="simulated"
        )
        path = Path(self._folder.name) / LIMITS_FILE
        links = [Link(DRILL, LARGEST, LARGEST)]
        if (plan := scenario.config.grid.plan) is not None:
            links.append(plan_link(plan, scenario.config.power.speedup))
        limits = Limits(path, links, clock=clock)
        budget.join(LimitSignal(limits, lambda: queue.now_s))
        baseline_s = scenario.config.grid.baseline_s
        self._site = SiteGrid(limits, baseline_s, energy_source=ENERGY_SOURCE)
        self._site.begin(budget.site_draw_w(0.0))
        self._judged_s: float | None = None

    def announce(self, change: Change) -> None:
        """Hand over a limit or an event; a refusal is logged."""
        for line in filter(None, self._site.take([change])):
            _log.warning("%s", line)

    def tick(self, observation: Observation, budget: Budget, span_s: float) -> GridTick | None:
        """End a window, as the live controller does; return its record.

        Args:
            observation: The fleet at its end.
            budget: The budget then, with the mean draw of the site.
            span_s: Its length, s.
        """
        now_s = self._queue.now_s
        if self._judged_s is None or now_s >= self._judged_s + JUDGE_S:
            self._judged_s = now_s
            scenario = self._scenario
            self._site.judge(sources_now(scenario.config, scenario.pools, observation))
        return self._site.tick(budget, span_s)

    def close(self) -> None:
        """Remove the kept file."""
        self._folder.cleanup()
