"""Measure the frontier of a fleet while it serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from steppe.config import RunConfig, SweepSection
from steppe.errors import InfeasibleError, SteppeError
from steppe.fleet.driver.driver import FleetDriver
from steppe.frontier.pareto import Frontier
from steppe.load.arrivals import Arrival
from steppe.load.client import ServerTarget
from steppe.load.generators import GeneratorsOnDemand
from steppe.measure.sweep.frontier import (
    FEWEST_FOR_FIT,
    frontier_from,
    provenance_of_fit,
    sound_mixed,
)
from steppe.measure.sweep.idle import ParkableSubject, measure_rest
from steppe.measure.sweep.point import (
    REAL_TIME,
    MeasurePlan,
    PointTiming,
    lengths_around,
    measure_point,
    outstanding,
)
from steppe.measure.sweep.result import Phase, PointResult, RestWatts, Setting
from steppe.measure.sweep.saturate import Saturation, saturated
from steppe.measure.sweep.subject import Rig
from steppe.run.expected_rate import expected_tps
from steppe.run.fleet_subject import FleetSubject, no_sensors
from steppe.run.quick_sweep import WARM_UP_S, dense_offer, quick_plan, quick_settings
from steppe.run.sweep_progress import in_words

RESERVE = 1.15
"""Watts reserved for a point, over those that the provisional frontier says."""
RETRY_S = 2.0
"""Time between two attempts to borrow a replica, s."""
AGAIN_S = 60.0
"""Time until a frontier that could not be fitted is measured again, s; doubled each time."""
LONGEST_AGAIN_S = 3600.0
"""Longest of these times, s."""
MOST_SWEEPS = 2
"""Sweeps after which a frontier that does not fit stays as it was measured. The first may have
been disturbed by other work on the host; its points are used until the second has ended."""
CHECK_S = 0.25
"""Time between two looks at whether a loan still lasts, s."""
JOIN_S = 60.0
"""Longest wait for a measurement to end, s."""

_log = logging.getLogger(__name__)


class Lender(Protocol):
    """Lends the replicas of a serving fleet; `FleetDriver` is one."""

    def lend(self, replica: str, reserve_w: float) -> bool:
        """Lend a replica without requests, and reserve watts for it; whether it is lent."""
        ...

    def is_lent(self, replica: str) -> bool:
        """Whether a loan still lasts."""
        ...

    def take_back(self, replica: str) -> None:
        """End a loan."""
        ...


@dataclass(frozen=True, slots=True)
class SpareReplica:
    """A replica that may be borrowed.

    Attributes:
        subject: Its knobs and counters.
        saturate: Holds so many requests of these lengths outstanding at it inside a block.
    """

    subject: ParkableSubject
    saturate: Callable[[Sequence[Arrival], int], AbstractContextManager[Saturation]]


@dataclass(frozen=True, slots=True)
class Refined:
    """A measured frontier.

    Attributes:
        frontier: The operating points.
        provenance: How they were measured, JSON values.
    """

    frontier: Frontier
    provenance: Mapping[str, Any]


class _LoanEndedError(SteppeError):
    """The fleet needs the replica back, or the run ends."""


class FrontierRefiner:
    """Measures the points of a sweep one by one on replicas that the fleet can spare.

    A replica is borrowed with watts reserved for the point; the controller takes it back when
    requests wait or the budget falls. The points that are left are measured with the next loan.
    """

    def __init__(
        self,
        lender: Lender,
        replicas: Callable[[], Sequence[SpareReplica]],
        config: RunConfig,
        provisional: Frontier,
        *,
        clocks_mhz: tuple[int, ...],
        source: str,
        timing: PointTiming = REAL_TIME,
        on_end: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = _log.info,
    ) -> None:
        """Prepare; nothing is measured before `start`.

        Args:
            lender: Lends the replicas.
            replicas: Returns the replicas that may be borrowed.
            config: The run.
            provisional: The frontier that the run started on; watts are reserved by it.
            clocks_mhz: SM clocks that the GPUs can be limited to, rising, MHz.
            source: `measured` or `emulated`.
            timing: A clock and a way to wait.
            on_end: Called in the thread of the measurements when no other follows.
            say: Takes lines about how far they have come, for people.
        """
        assert config.frontier.sweep is not None, "a frontier file is not refined"
        self._section: SweepSection = config.frontier.sweep
        self._lender, self._replicas, self._provisional = lender, replicas, provisional
        self._clocks_mhz, self._source = clocks_mhz, source
        self._largest, self._period_s = config.engine.max_batch_limit, config.control.period_s
        self._tokens_per_step = config.engine.max_tokens_per_step
        self._window_s, self._timing = self._section.window_s, timing
        self._todo: list[Setting] = []
        self._points: list[PointResult] = []
        self._rest: RestWatts | None = None
        self._begin_again()
        self._fastest = {s.phase: s for s in reversed(self._todo)}
        self._refined: Refined | None = None
        self._is_done, self._sweeps = False, 0
        self._borrowed: str | None = None
        self._reserved_w = 0.0
        self._on_end, self._say = on_end, say
        self._all, self._said = len(self._todo), 0
        self._quarter = max(1, -(-self._all // 4))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="refine")

    @property
    def is_running(self) -> bool:
        """Whether its thread measures, or waits to."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End a measurement that is under way, give its replica back, and wait until it is done."""
        self._stop.set()
        self.wait()

    def wait(self) -> None:
        """Wait until the thread is done, for `JOIN_S` at most."""
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def measure_once(self) -> None:
        """Measure as much as the fleet lends its replicas for now.

        Raises:
            InfeasibleError: It is to be measured again: too few points are sound, or the first fit
                was refused.
            SteppeError: A replica or a meter failed.
        """
        for replica in self._replicas():
            self._measure_on(replica)
        if not self._todo and self._rest is not None:
            self._refined = self._fit(self._rest)
            self._sweeps += 1
            if "refused" in self._refined.provenance and self._sweeps < MOST_SWEEPS:
                raise InfeasibleError("the fit was refused: the host may have been busy")
            self._is_done = True

    def take(self) -> Refined | None:
        """Return the measured frontier once, as soon as it is there."""
        refined, self._refined = self._refined, None
        return refined

    def _run(self) -> None:
        plan = quick_plan(self._window_s)
        self._say(
            f"measuring {self._all} operating points on replicas without requests: "
            f"{in_words(self._all * plan.shortest_point_s)} of them"
        )
        again_s = AGAIN_S
        try:
            while not self._stop.is_set() and not self._is_done:
                try:
                    self.measure_once()
                except InfeasibleError as error:
                    _log.warning("the frontier is measured again in %.0f s: %s", again_s, error)
                    self._begin_again()
                    self._stop.wait(again_s)
                    again_s = min(2 * again_s, LONGEST_AGAIN_S)
                self._stop.wait(0.0 if self._is_done else RETRY_S)
        except SteppeError as error:
            _log.warning("the frontier stays as it was: %s", error)
        finally:
            self._on_end()

    def _begin_again(self) -> None:
        self._todo = quick_settings(self._clocks_mhz, self._section, self._largest)
        self._points, self._rest, self._said = [], None, 0

    def _measure_on(self, replica: SpareReplica) -> None:
        """Borrow a replica, and measure with it until nothing is left or the loan ends."""
        name = replica.subject.name
        try:
            if self._todo:
                while (first := self._borrow(name)) is not None:
                    self._measure_points(replica, first)
            elif self._rest is None and self._lender.lend(name, RESERVE * self._provisional.idle_w):
                self._borrowed = name
                self._rest = self._measure_rest(replica.subject)
        except _LoanEndedError:
            _log.info("%s is needed; %d points are left", name, len(self._todo))
        finally:
            if self._borrowed is not None:
                self._lender.take_back(name)
                self._borrowed, self._reserved_w = None, 0.0

    def _measure_points(self, replica: SpareReplica, first: Setting) -> None:
        """Measure the points of the first one's phase, under one load."""
        name, subject = replica.subject.name, replica.subject
        timing, plan = PointTiming(self._timing.now_s, self._sleep), quick_plan(self._window_s)
        subject.set_point(first.clock_mhz, first.batch_limit)
        full = self._fastest[first.phase]
        with replica.saturate(lengths_around(full, 0), outstanding(full)) as load:
            self._sleep(WARM_UP_S)
            rig = Rig(name, subject, no_sensors, lambda *_: nullcontext(load))
            while (setting := self._borrow(name, first.phase)) is not None:
                point = measure_point(rig, setting, plan, timing)
                self._sleep(0.0)  # drops the point if the controller has set other limits
                self._points.append(point)
                self._todo.remove(setting)
                self._say_progress(plan)

    def _say_progress(self, plan: MeasurePlan) -> None:
        """Say at each quarter how many points are measured, and how long the others take."""
        done = self._all - len(self._todo)
        if done // self._quarter > self._said and self._todo:
            self._said = done // self._quarter
            left = in_words(len(self._todo) * plan.shortest_point_s)
            self._say(f"measured {done} of {self._all} operating points, {left} to go")

    def _measure_rest(self, subject: ParkableSubject) -> RestWatts:
        try:
            return measure_rest([subject], min(self._clocks_mhz, default=0), self._sleep)
        except _LoanEndedError:
            subject.set_frozen(False)
            raise

    def _borrow(self, name: str, phase: Phase | None = None) -> Setting | None:
        """Borrow a replica, or keep it, for the fastest point that is left and that it is lent for.

        Args:
            name: The replica.
            phase: The phase of the point; any if None.

        Returns:
            The point, for which the watts are free; None if there is none.

        Raises:
            _LoanEndedError: The loan ended before the watts were free.
        """
        for setting in self._todo:
            if phase not in (None, setting.phase):
                continue
            reserve_w = self._reserve_w(setting)
            if self._lender.lend(name, reserve_w):
                self._borrowed = name
                if reserve_w > self._reserved_w:  # the next plan leaves these watts to it
                    self._sleep(self._period_s)
                self._reserved_w = reserve_w
                return setting
        return None

    def _reserve_w(self, setting: Setting) -> float:
        """Return the most that a point may draw by the provisional frontier, W."""
        candidates = self._provisional.candidates
        slower = [p.draw_w for p in candidates if p.clock_mhz <= setting.clock_mhz]
        return RESERVE * max(slower, default=self._provisional.full.draw_w)

    def _sleep(self, seconds: float) -> None:
        """Wait while the loan lasts.

        Raises:
            _LoanEndedError: It has ended.
        """
        until_s = self._timing.now_s() + seconds
        while True:
            is_over = self._stop.is_set() or self._borrowed is None
            if is_over or not self._lender.is_lent(self._borrowed or ""):
                raise _LoanEndedError
            left_s = until_s - self._timing.now_s()
            if left_s <= 0:
                return
            self._timing.sleep(min(CHECK_S, left_s))

    def _fit(self, rest: RestWatts) -> Refined:
        """Return the frontier through the measured points; one that is refused is logged.

        Raises:
            InfeasibleError: Fewer than three of them are sound, or the replica draws no less asleep
                than at one of them, as on a host that is busy with other work.
        """
        sound = sound_mixed(self._points)
        if len(sound) < FEWEST_FOR_FIT:
            raise InfeasibleError(
                f"asked for {FEWEST_FOR_FIT} sound points, found {len(sound)}: is the host busy?"
            )
        offer = dense_offer(self._clocks_mhz, self._section, self._largest, self._tokens_per_step)
        swept = frontier_from(self._points, rest, self._source, offer)
        for line in swept.refused:
            _log.warning("measured frontier: %s", line)
        provenance: dict[str, Any] = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "points": len(sound),
            "window_s": self._window_s,
            **provenance_of_fit(swept),
        }
        return Refined(swept.frontier, provenance)


def pool_refiner(
    driver: FleetDriver,
    pool: str,
    provisional: Frontier,
    say: Callable[[str], None] = _log.info,
) -> FrontierRefiner:
    """Return the refiner of a pool that serves.

    Args:
        driver: The fleet.
        pool: Name of the pool.
        provisional: The frontier that it started on.
        say: Takes lines about how far the measurements have come, for people.
    """
    actors, found = driver.actors, driver.actors.pools()[pool]
    config = found.config
    generators = GeneratorsOnDemand(expected_tps(config, found.gpu_names))

    def replicas() -> list[SpareReplica]:
        names = [name for name, place in actors.placements.items() if place.pool == pool]
        return [SpareReplica(FleetSubject(actors, name), load_on(name)) for name in names]

    def load_on(name: str) -> Callable[..., AbstractContextManager[Saturation]]:
        def saturate(
            arrivals: Sequence[Arrival], concurrency: int
        ) -> AbstractContextManager[Saturation]:
            target = ServerTarget(
                actors.calls.url(name), config.model.client_name, actors.replica_headers
            )
            return saturated([target], arrivals, concurrency, generators=generators.started())

        return saturate

    return FrontierRefiner(
        driver,
        replicas,
        config,
        provisional,
        clocks_mhz=found.common_clocks_mhz if found.can_limit_clocks else (),
        source="emulated" if actors.energy_source == "emulated" else "measured",
        on_end=generators.close,
        say=say,
    )
