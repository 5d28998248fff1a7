"""The operating points of a live run: recorded, and replaced once they are measured."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from steppe.config import RunConfig
from steppe.errors import ConfigError
from steppe.fleet.driver.driver import FleetDriver
from steppe.frontier.cache import frontier_cache
from steppe.frontier.file import write_frontier
from steppe.frontier.pareto import Frontier
from steppe.report.record_folder import FRONTIER_FILE, Recorder
from steppe.run.check_slo import check_slo
from steppe.run.refinement import FrontierRefiner, Refined, pool_refiner
from steppe.run.starting_frontier import (
    FrontierSource,
    StartingFrontier,
    frontier_key,
    frontier_subject,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrontiersState:
    """Where the operating points of a run come from.

    Attributes:
        sources: The source of each pool.
        unmeasured: The pools that are to be measured, with the operating points until then.
        measured_at_s: When the last of them was measured, s since the run began; None before.
    """

    sources: Mapping[str, FrontierSource]
    unmeasured: Mapping[str, Frontier]
    measured_at_s: float | None


class LiveFrontiers:
    """The frontiers of the pools of a run. Pools are measured one after the other.

    Attributes:
        measured_at_s: When this run had measured the last of them, s since it began; None before.
    """

    def __init__(
        self,
        driver: FleetDriver,
        config: RunConfig,
        recorder: Recorder | None,
        say: Callable[[str], None],
    ) -> None:
        """Begin without a frontier.

        Args:
            driver: The fleet.
            config: The run.
            recorder: Records the frontiers; None for no record.
            say: Takes lines about how far the measurements have come, for people.
        """
        self._driver, self._config = driver, config
        self._recorder, self._say = recorder, say
        self._sources: dict[str, FrontierSource] = {}
        self._provisional: dict[str, Frontier] = {}
        self._under_way: dict[str, Frontier] = {}
        self._measured: str | None = None
        self._refiner: FrontierRefiner | None = None
        self.measured_at_s: float | None = None

    @property
    def source(self) -> str:
        """Where the operating points that are in use come from."""
        return " + ".join(sorted(set(self._sources.values()) or {FrontierSource.FILE}))

    def begin(self, starts: Mapping[str, StartingFrontier]) -> None:
        """Record the frontiers that a run starts on, hand them over, and begin to measure."""
        for pool, start in starts.items():
            self._sources[pool] = start.source
            self._record(pool, start.frontier)
        self._driver.begin({pool: start.frontier for pool, start in starts.items()})
        self._provisional = {
            pool: start.frontier
            for pool, start in starts.items()
            if start.is_provisional and self._config.frontier.refine
        }
        self._measure_next()

    @property
    def state(self) -> FrontiersState:
        """Where they come from, and what is to be measured; what has begun is begun again."""
        unmeasured = self._provisional | self._under_way
        return FrontiersState(self._sources, unmeasured, self.measured_at_s)

    def go_on(self, state: FrontiersState) -> None:
        """Go on with the operating points of another driver of this run."""
        self._sources, self._provisional = dict(state.sources), dict(state.unmeasured)
        self.measured_at_s = state.measured_at_s
        self._measure_next()

    def use_measured(self, now_s: float) -> None:
        """Use a frontier as soon as it is measured, and cache it.

        Args:
            now_s: Time since the run began, s.
        """
        if self._refiner is None or self._measured is None:
            return
        refined = self._refiner.take()
        if refined is not None:
            self._use(self._measured, refined, now_s)
        if not self._refiner.is_running:
            self._under_way = {}
            self._measure_next()

    def stop(self) -> None:
        """End a measurement that is under way."""
        if self._refiner is not None:
            self._refiner.stop()

    def _measure_next(self) -> None:
        if not self._provisional:
            return
        self._measured = pool = next(iter(self._provisional))
        frontier = self._provisional.pop(pool)
        self._under_way = {pool: frontier}
        self._refiner = pool_refiner(self._driver, pool, frontier, self._say)
        self._refiner.start()

    def _use(self, pool: str, refined: Refined, now_s: float) -> None:
        actors = self._driver.actors.pools()[pool]
        try:
            check_slo(actors.config, refined.frontier, _log.warning)
        except ConfigError as error:
            _log.warning("the measured frontier is not used: %s", error)
            return
        self._driver.use_frontier(refined.frontier, pool)
        self._sources[pool], self.measured_at_s = FrontierSource.MEASURED, now_s
        self._record(pool, refined.frontier)
        try:
            path = frontier_cache().save(frontier_key(actors), refined.frontier, refined.provenance)
        except OSError as error:
            _log.warning("the measured frontier is not cached: %s", error)
        else:
            self._say(f"frontier measured while serving; cached in {path}")

    def _record(self, pool: str, frontier: Frontier) -> None:
        if self._recorder is not None:
            subject = frontier_subject(self._driver.actors.pools()[pool])
            write = partial(write_frontier, frontier, subject=subject)
            self._recorder.add_file(frontier_file(pool), write)


def frontier_file(pool: str) -> str:
    """Return the name of the frontier file of a pool in a record."""
    if not pool:
        return FRONTIER_FILE
    stem, _, suffix = FRONTIER_FILE.rpartition(".")
    return f"{stem}-{re.sub(r'[^A-Za-z0-9.]+', '-', pool).strip('-')}.{suffix}"
