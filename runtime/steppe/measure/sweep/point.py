"""Measure one replica at one operating point: warm up, settle, then windows back to back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from steppe.device.gpu import LimitReason
from steppe.energy.span import span_error_j
from steppe.energy.window import Quality
from steppe.errors import DeviceError
from steppe.load.arrivals import Arrival
from steppe.measure.sweep.length_sample import LengthSample
from steppe.measure.sweep.result import (
    UNSTEADY_SHARE,
    Estimates,
    Flag,
    GpuSummary,
    MeasuredWindow,
    Phase,
    PointResult,
    Setting,
)
from steppe.measure.sweep.subject import Rig, SensorReading, SubjectTotals

LEAST_QUEUE = 4
BLOCK, BLOCKS = 8, 125
TURNOVER_TOKEN_S = 0.05
"""Time allowed for each output token until a batch has turned over, s: as slow as people read."""
SETTLED_C = 1
"""Most that the temperature may change within `SETTLE_OVER_S` once it has settled, C."""
SETTLE_OVER_S = 3.0
STALE_S = 1.0
"""A meter whose last reading is older has stopped, s: ten periods of the usual counter."""
CLOCK_TOLERANCE = 0.03
THROTTLED_SHARE = 0.05
THROTTLES = frozenset(
    {
        LimitReason.POWER_LIMIT,
        LimitReason.HARDWARE_SLOWDOWN,
        LimitReason.THERMAL,
        LimitReason.HARDWARE_THERMAL,
        LimitReason.POWER_BRAKE,
    }
)


@dataclass(frozen=True, slots=True)
class PointTiming:
    """A clock and a way to wait, s."""

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


REAL_TIME = PointTiming()


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """How each point is measured.

    Attributes:
        windows: Number of windows.
        window_s: Length of one, s.
        warm_up_s: Least time under load before the first window, s.
        longest_warm_up_s: Longest wait until a batch that decodes has turned over once, s.
        longest_settle_s: Longest further wait until the temperature has settled, s.
        poll_s: Time between two readings of counters and sensors, s.
        seed: Seed of the lengths of requests.
        prompt_seed: Seed of their words. New for each start, because a server that kept running
            may hold the words of an earlier start in its prefix cache.
        sample: Lengths of a user's own requests, for the settings that name it.
    """

    windows: int = 5
    window_s: float = 10.0
    warm_up_s: float = 2.0
    longest_warm_up_s: float = 20.0
    longest_settle_s: float = 15.0
    poll_s: float = 0.25
    seed: int = 0
    prompt_seed: int = 0
    sample: LengthSample | None = None

    @property
    def shortest_point_s(self) -> float:
        """Time that a point takes if it warms up and settles at once, s."""
        settle_s = min(SETTLE_OVER_S, self.longest_settle_s)
        return self.warm_up_s + settle_s + self.windows * self.window_s

    @property
    def longest_point_s(self) -> float:
        """Time that a point takes if it uses every wait in full, s."""
        return self.longest_warm_up_s + self.longest_settle_s + self.windows * self.window_s


@dataclass(frozen=True, slots=True)
class PointStage:
    """What is done at a point under way.

    Attributes:
        replica: Name of the replica.
        setting: The point.
        text: What begins, for people.
        share: Part of the point's shortest time that has passed.
    """

    replica: str
    setting: Setting
    text: str
    share: float


def ignore_stage(_: PointStage) -> None:
    """Do nothing at a new stage."""


def requests_of(setting: Setting, plan: MeasurePlan) -> tuple[Arrival, ...]:
    """Return the requests of a point: those of the plan's sample, or some around its means."""
    if not setting.sample:
        return lengths_around(setting, plan.seed)
    assert plan.sample is not None, "a setting that names a sample has one"
    assert plan.sample.digest == setting.sample, "and it is that of the plan"
    return plan.sample.arrivals(1 if setting.phase is Phase.PREFILL else None)


def warm_up_for(settings: Sequence[Setting], plan: MeasurePlan) -> MeasurePlan:
    """Return the plan with a warm-up in which batches of the longest outputs turn over."""
    longest = max((setting.output_tokens for setting in settings), default=0)
    longest_s = max(plan.longest_warm_up_s, TURNOVER_TOKEN_S * longest)
    return replace(plan, longest_warm_up_s=longest_s)


def lengths_around(setting: Setting, seed: int) -> tuple[Arrival, ...]:
    """Return requests around a point's mean lengths; equal ones would run in lockstep.

    Lengths are uniform from 1 to twice the mean less 1; one token stays one token. Every block of
    `BLOCK` requests has one prompt and one output from each equal part of that range (a Latin
    hypercube, McKay et al. 1979), so that the mix hardly differs between two windows.
    """
    rng = np.random.default_rng(seed)
    prompts = _stratified(setting.prompt_tokens, rng)
    outputs = _stratified(setting.output_tokens, rng)
    return tuple(Arrival(0.0, p, o) for p, o in zip(prompts, outputs, strict=True))


def _stratified(mean: int, rng: np.random.Generator) -> list[int]:
    parts = rng.permuted(np.tile(np.arange(BLOCK), (BLOCKS, 1)), axis=1)
    shares = (parts + rng.random(parts.shape)) / BLOCK
    longest = 2 * mean - 1
    lengths: list[int] = (
        np.minimum(longest, 1 + np.floor(longest * shares)).astype(int).ravel().tolist()
    )
    return lengths


def outstanding(setting: Setting) -> int:
    """Return how many requests to hold outstanding, so that a free place is taken at once.

    Prefill alone frees all places of a step at once, so a whole batch must wait behind it.
    """
    batch = setting.batch_limit
    queue = batch if setting.phase is Phase.PREFILL else batch // 4
    return batch + max(LEAST_QUEUE, queue)


@dataclass(slots=True)
class _Observations:
    """Readings of counters and sensors while the windows ran.

    Attributes:
        readings: Counters.
        lags_s: Age of each reading's energy, s.
        sensors: Sensors; None where they cannot be read.
        edges: Indices of the readings at which windows begin and end.
    """

    readings: list[SubjectTotals] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    sensors: list[SensorReading | None] = field(default_factory=list)
    edges: list[int] = field(default_factory=list)

    @property
    def known_sensors(self) -> list[SensorReading]:
        """The sensor readings that there are."""
        return [sensors for sensors in self.sensors if sensors is not None]

    @property
    def quality(self) -> str:
        """Worst quality of the joules; emulated ones are no worse than a counter's."""
        order = [Quality.COUNTER, Quality.EMULATED, Quality.INTEGRATED, Quality.ESTIMATED]
        return max((Quality(reading.quality) for reading in self.readings[1:]), key=order.index)

    def windows(self, replica: str) -> tuple[MeasuredWindow, ...]:
        """Return the windows between the edges.

        Raises:
            DeviceError: The meter gave no new reading within one.
        """
        return tuple(
            _window(replica, self.readings[begin : end + 1])
            for begin, end in zip(self.edges, self.edges[1:], strict=False)
        )


def measure_point(
    rig: Rig,
    setting: Setting,
    plan: MeasurePlan,
    timing: PointTiming = REAL_TIME,
    on_stage: Callable[[PointStage], None] = ignore_stage,
) -> PointResult:
    """Set a point, saturate the replica, and measure it.

    Args:
        rig: The replica.
        setting: The point.
        plan: How to measure it.
        timing: A clock and a way to wait.
        on_stage: Takes each new stage.

    Raises:
        DeviceError: A meter or a knob failed.
        ReplicaError: The replica does not answer.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")

    def at(text: str, passed_s: float) -> None:
        share = passed_s / plan.shortest_point_s if plan.shortest_point_s else 0.0
        on_stage(PointStage(rig.name, setting, text, share))

    rig.subject.set_point(setting.clock_mhz, setting.batch_limit)
    begun_s = timing.now_s()
    at("warming up", 0.0)
    arrivals, words = requests_of(setting, plan), plan.prompt_seed + setting.seed
    with rig.saturate(arrivals, outstanding(setting), words) as load:
        has_turned = _warm_up(rig, setting, plan, timing)
        at("waiting for the temperature to settle", plan.warm_up_s)
        has_settled = _settle(rig, plan, timing)
        since_s, before_s = timing.now_s(), plan.shortest_point_s - plan.windows * plan.window_s
        observed = _observe(
            rig,
            plan,
            timing,
            lambda n: at(f"window {n + 1} of {plan.windows}", before_s + n * plan.window_s),
        )
    windows, error_j = observed.windows(rig.name), _span_error_j(observed.readings)
    flags = [] if has_settled else [Flag.UNSETTLED]
    if not has_turned and plan.longest_warm_up_s > plan.warm_up_s:  # else another load warmed it up
        flags.append(Flag.YOUNG)
    return PointResult(
        setting=setting,
        replica=rig.name,
        started=started,
        warm_up_s=since_s - begun_s,
        windows=windows,
        meter_error_j=error_j,
        meter=observed.quality,
        client=load.client_times(since_s),
        gpu=_summary(observed.known_sensors),
        flags=(*flags, *_flags(rig, setting, observed), *_unsteady(windows, error_j)),
    )


def _warm_up(rig: Rig, setting: Setting, plan: MeasurePlan, timing: PointTiming) -> bool:
    """Wait until the batch has turned over once, so that lengths and ages in it are mixed.

    Returns:
        Whether it has; prefill alone has nothing to turn over.
    """
    begun_s, first = timing.now_s(), rig.subject.reading()
    decodes = setting.phase is not Phase.PREFILL
    due = setting.batch_limit * setting.output_tokens if decodes else 0
    while (elapsed_s := timing.now_s() - begun_s) < plan.longest_warm_up_s:
        timing.sleep(plan.poll_s)
        has_turned = rig.subject.reading().output_tokens - first.output_tokens >= due
        if has_turned and elapsed_s >= plan.warm_up_s:
            return True
    return not due


def _settle(rig: Rig, plan: MeasurePlan, timing: PointTiming) -> bool:
    """Wait until the temperature has settled; return whether it has, or cannot be read."""
    begun_s = timing.now_s()
    history: list[tuple[float, int]] = []
    while True:
        sensors, now_s = rig.read_sensors(), timing.now_s()
        if sensors is None or sensors.temperature_c is None:
            return True
        history = [(at_s, c) for at_s, c in history if at_s >= now_s - SETTLE_OVER_S]
        history.append((now_s, sensors.temperature_c))
        temperatures = [c for _, c in history]
        if now_s - begun_s >= SETTLE_OVER_S and max(temperatures) - min(temperatures) <= SETTLED_C:
            return True
        if now_s - begun_s >= plan.longest_settle_s:
            return False
        timing.sleep(plan.poll_s)


def _observe(
    rig: Rig, plan: MeasurePlan, timing: PointTiming, on_window: Callable[[int], None]
) -> _Observations:
    """Read counters and sensors again and again until all windows have passed."""
    begun_s, observed = timing.now_s(), _Observations()
    while len(observed.edges) <= plan.windows:
        reading = rig.subject.reading()
        now_s = timing.now_s()
        if now_s - begun_s >= len(observed.edges) * plan.window_s:
            if len(observed.edges) < plan.windows:
                on_window(len(observed.edges))
            observed.edges.append(len(observed.readings))
        observed.readings.append(reading)
        observed.lags_s.append(now_s - reading.time_s)
        observed.sensors.append(rig.read_sensors())
        if len(observed.edges) <= plan.windows:
            timing.sleep(plan.poll_s)
    return observed


def _window(replica: str, readings: Sequence[SubjectTotals]) -> MeasuredWindow:
    begin, end = readings[0], readings[-1]
    if end.time_s <= begin.time_s:
        raise DeviceError(f"{replica}: asked for the energy of a window, found no new reading")
    return MeasuredWindow(
        duration_s=end.time_s - begin.time_s,
        energy_j=end.energy_j - begin.energy_j,
        error_j=_span_error_j(readings),
        steps=end.steps - begin.steps,
        prompt_tokens=end.prompt_tokens - begin.prompt_tokens,
        output_tokens=end.output_tokens - begin.output_tokens,
    )


def _span_error_j(readings: Sequence[SubjectTotals]) -> float:
    """Return a bound of the error over a span of readings, J."""
    return span_error_j((reading.error_j, reading.quality) for reading in readings[1:])


def _flags(rig: Rig, setting: Setting, observed: _Observations) -> list[Flag]:
    flags = []
    if any(r.running < setting.batch_limit and not r.waiting for r in observed.readings):
        flags.append(Flag.UNSATURATED)
    if max(observed.lags_s) > STALE_S or observed.quality == Quality.ESTIMATED:
        flags.append(Flag.STALE)
    sensors = observed.known_sensors
    if not sensors:
        return [*flags, Flag.UNWATCHED]
    throttled = sum(bool(reading.reasons & THROTTLES) for reading in sensors)
    if throttled > THROTTLED_SHARE * len(sensors):
        flags.append(Flag.THROTTLED)
    if any((reading.processes or 0) > rig.expected_processes for reading in sensors):
        flags.append(Flag.SHARED)
    mean_mhz = sum(reading.clock_mhz for reading in sensors) / len(sensors)
    if setting.clock_mhz and abs(mean_mhz / setting.clock_mhz - 1) > CLOCK_TOLERANCE:
        flags.append(Flag.CLOCK)
    return flags


def _unsteady(windows: Sequence[MeasuredWindow], error_j: float) -> list[Flag]:
    if len(windows) < 2 or not any(window.output_tokens for window in windows):
        return []
    joules = Estimates.of(windows, error_j, seed=0).energy_per_output_token
    return [Flag.UNSTEADY] if joules.relative_half_width > UNSTEADY_SHARE else []


def _summary(sensors: Sequence[SensorReading]) -> GpuSummary:
    if not sensors:
        return GpuSummary()
    processes = [reading.processes for reading in sensors if reading.processes is not None]
    return GpuSummary(
        clock_mhz=sum(reading.clock_mhz for reading in sensors) / len(sensors),
        start_c=sensors[0].temperature_c,
        end_c=sensors[-1].temperature_c,
        reasons=tuple(sorted({str(reason) for reading in sensors for reason in reading.reasons})),
        processes=max(processes, default=None),
    )
