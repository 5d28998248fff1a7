"""Measure one replica at one operating point: warm up, settle, then windows back to back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from steppe.device.gpu import LimitReason
from steppe.energy.span import span_error_j
from steppe.energy.window import Quality
from steppe.load.arrivals import Arrival
from steppe.measure.sweep.result import (
    Estimates,
    Flag,
    GpuSeen,
    MeasuredWindow,
    Phase,
    PointResult,
    Setting,
)
from steppe.measure.sweep.saturate import Saturation
from steppe.measure.sweep.subject import GpuLook, Rig, SubjectTotals

LEAST_QUEUE = 4
BLOCK, BLOCKS = 8, 125
SETTLED_C = 1
"""Most that the temperature may move within `SETTLE_OVER_S` once it has settled, C."""
SETTLE_OVER_S = 3.0
STALE_S = 1.0
"""A meter whose last reading is older stands still: ten periods of the usual counter, s."""
CLOCK_TOLERANCE = 0.03
THROTTLED_SHARE = 0.05
UNSTEADY_SHARE = 0.25
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
    """A clock and a way to wait, s; tests bring their own."""

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


REAL_TIME = PointTiming()


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """How each point is measured.

    Attributes:
        windows: How many windows.
        window_s: Length of one, s.
        warm_up_s: Least time under load before the first window, s.
        longest_warm_up_s: Longest wait until a mixed batch has turned over once, s.
        longest_settle_s: Longest further wait until the temperature stands, s.
        look_s: Time between two looks at counters and sensors, s.
        seed: Seed of the lengths of requests.
        prompt_seed: Seed of their words. New for each start, for a server that still runs may
            hold the words of an earlier one in its prefix cache.
    """

    windows: int = 5
    window_s: float = 10.0
    warm_up_s: float = 2.0
    longest_warm_up_s: float = 20.0
    longest_settle_s: float = 15.0
    look_s: float = 0.25
    seed: int = 0
    prompt_seed: int = 0


def lengths_around(setting: Setting, seed: int) -> tuple[Arrival, ...]:
    """Return requests around a point's mean lengths; were they alike, they would run in lockstep.

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
    """Return how many requests to hold outstanding, so that a place that falls free is taken.

    Prefill alone frees all places of a step at once, so a whole batch must wait behind it.
    """
    batch = setting.batch_limit
    queue = batch if setting.phase is Phase.PREFILL else batch // 4
    return batch + max(LEAST_QUEUE, queue)


@dataclass(slots=True)
class _Notes:
    """What was seen while the windows ran."""

    started: str
    warm_up_s: float = 0.0
    since_s: float = 0.0
    has_settled: bool = False
    readings: list[SubjectTotals] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    looks: list[GpuLook | None] = field(default_factory=list)
    edges: list[int] = field(default_factory=list)


def measure_point(
    rig: Rig, setting: Setting, plan: MeasurePlan, timing: PointTiming = REAL_TIME
) -> PointResult:
    """Set a point, saturate the replica, and measure it.

    Raises:
        DeviceError: A meter or a knob failed.
        ReplicaError: The replica does not answer.
    """
    notes = _Notes(datetime.now(UTC).isoformat(timespec="seconds"))
    rig.subject.set_point(setting.clock_mhz, setting.batch_limit)
    begun_s = timing.now_s()
    concurrency = outstanding(setting)
    words = plan.prompt_seed + setting.seed
    with rig.saturate(lengths_around(setting, plan.seed), concurrency, words) as load:
        _warm_up(rig, setting, plan, timing)
        notes.has_settled = _settle(rig, plan, timing)
        notes.since_s = timing.now_s()
        notes.warm_up_s = notes.since_s - begun_s
        _watch(rig, plan, timing, notes)
    return _result(rig, setting, notes, load)


def _warm_up(rig: Rig, setting: Setting, plan: MeasurePlan, timing: PointTiming) -> None:
    """Wait until the batch has turned over once: then lengths and ages in it are mixed."""
    begun_s, first = timing.now_s(), rig.subject.reading()
    due = setting.batch_limit * setting.output_tokens if setting.phase is Phase.MIXED else 0
    while (elapsed_s := timing.now_s() - begun_s) < plan.longest_warm_up_s:
        timing.sleep(plan.look_s)
        has_turned = rig.subject.reading().output_tokens - first.output_tokens >= due
        if has_turned and elapsed_s >= plan.warm_up_s:
            return


def _settle(rig: Rig, plan: MeasurePlan, timing: PointTiming) -> bool:
    """Wait until the temperature stands; tell whether it does. Unseen, it counts as standing."""
    begun_s = timing.now_s()
    seen: list[tuple[float, int]] = []
    while True:
        look, now_s = rig.look(), timing.now_s()
        if look is None or look.temperature_c is None:
            return True
        seen = [(at_s, c) for at_s, c in seen if at_s >= now_s - SETTLE_OVER_S]
        seen.append((now_s, look.temperature_c))
        heats = [c for _, c in seen]
        if now_s - begun_s >= SETTLE_OVER_S and max(heats) - min(heats) <= SETTLED_C:
            return True
        if now_s - begun_s >= plan.longest_settle_s:
            return False
        timing.sleep(plan.look_s)


def _watch(rig: Rig, plan: MeasurePlan, timing: PointTiming, notes: _Notes) -> None:
    """Look at counters and sensors again and again; note at which looks the windows end."""
    begun_s = timing.now_s()
    while len(notes.edges) <= plan.windows:
        reading = rig.subject.reading()
        now_s = timing.now_s()
        if now_s - begun_s >= len(notes.edges) * plan.window_s:
            notes.edges.append(len(notes.readings))
        notes.readings.append(reading)
        notes.lags_s.append(now_s - reading.time_s)
        notes.looks.append(rig.look())
        if len(notes.edges) <= plan.windows:
            timing.sleep(plan.look_s)


def _result(rig: Rig, setting: Setting, notes: _Notes, load: Saturation) -> PointResult:
    looks = [look for look in notes.looks if look is not None]
    windows, error_j = _windows(notes), _span_error_j(notes.readings)
    flags = _flags(rig, setting, notes, looks)
    if _is_unsteady(windows, error_j):
        flags.append(Flag.UNSTEADY)
    return PointResult(
        setting=setting,
        replica=rig.name,
        started=notes.started,
        warm_up_s=notes.warm_up_s,
        windows=windows,
        meter_error_j=error_j,
        meter=_worst_quality(notes.readings),
        client=load.client_times(notes.since_s),
        gpu=_seen(looks),
        flags=tuple(flags),
    )


def _windows(notes: _Notes) -> tuple[MeasuredWindow, ...]:
    windows = []
    for begin, end in zip(notes.edges, notes.edges[1:], strict=False):
        a, b = notes.readings[begin], notes.readings[end]
        windows.append(
            MeasuredWindow(
                duration_s=b.time_s - a.time_s,
                energy_j=b.energy_j - a.energy_j,
                error_j=_span_error_j(notes.readings[begin : end + 1]),
                steps=b.steps - a.steps,
                prompt_tokens=b.prompt_tokens - a.prompt_tokens,
                output_tokens=b.output_tokens - a.output_tokens,
            )
        )
    return tuple(windows)


def _span_error_j(readings: Sequence[SubjectTotals]) -> float:
    """Return a bound of the error over a span of readings, J."""
    return span_error_j((piece.error_j, piece.quality) for piece in readings[1:])


def _worst_quality(readings: Sequence[SubjectTotals]) -> str:
    order = [Quality.COUNTER, Quality.EMULATED, Quality.INTEGRATED, Quality.ESTIMATED]
    found = {Quality(reading.quality) for reading in readings[1:]}
    return max(found, key=order.index)


def _flags(rig: Rig, setting: Setting, notes: _Notes, looks: Sequence[GpuLook]) -> list[Flag]:
    flags = [] if notes.has_settled else [Flag.UNSETTLED]
    is_short = any(r.running < setting.batch_limit and not r.waiting for r in notes.readings)
    if is_short:
        flags.append(Flag.UNSATURATED)
    if max(notes.lags_s) > STALE_S or _worst_quality(notes.readings) == Quality.ESTIMATED:
        flags.append(Flag.STALE)
    if not looks:
        return [*flags, Flag.UNWATCHED]
    throttled = sum(bool(look.reasons & THROTTLES) for look in looks)
    if throttled > THROTTLED_SHARE * len(looks):
        flags.append(Flag.THROTTLED)
    if any((look.processes or 0) > rig.expected_processes for look in looks):
        flags.append(Flag.SHARED)
    mean_mhz = sum(look.clock_mhz for look in looks) / len(looks)
    if setting.clock_mhz and abs(mean_mhz / setting.clock_mhz - 1) > CLOCK_TOLERANCE:
        flags.append(Flag.CLOCK)
    return flags


def _is_unsteady(windows: Sequence[MeasuredWindow], error_j: float) -> bool:
    if len(windows) < 2 or not any(window.output_tokens for window in windows):
        return False
    joules = Estimates.of(windows, error_j, seed=0).energy_per_output_token
    return joules.relative_half_width > UNSTEADY_SHARE


def _seen(looks: Sequence[GpuLook]) -> GpuSeen:
    if not looks:
        return GpuSeen()
    processes = [look.processes for look in looks if look.processes is not None]
    return GpuSeen(
        clock_mhz=sum(look.clock_mhz for look in looks) / len(looks),
        start_c=looks[0].temperature_c,
        end_c=looks[-1].temperature_c,
        reasons=tuple(sorted({str(reason) for look in looks for reason in look.reasons})),
        processes=max(processes, default=None),
    )
