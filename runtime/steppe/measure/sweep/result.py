"""What a sweep measured at one operating point. Values only."""

from __future__ import annotations

import enum
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steppe.measure.statistics import Interval, ratio_interval


class Phase(enum.StrEnum):
    """What the load of a point consists of."""

    MIXED = "mixed"
    """Prompts and outputs of the given lengths: what a replica serves."""
    PREFILL = "prefill"
    """Prompts with one output token each: joules per prompt token."""
    DECODE = "decode"
    """Prompts of a few tokens with long outputs: joules per output token alone."""


UNSTEADY_SHARE = 0.25
"""Half-width of the interval of J/token from which windows count as different, share."""


class Flag(enum.StrEnum):
    """What was wrong when a point was measured."""

    THROTTLED = "throttled"
    """Heat, the board power limit or the power supply held the clock down."""
    SHARED = "shared GPU"
    """Another process held memory on a GPU."""
    STALE = "stale meter"
    """The energy counter stood still, or part of its window is estimated."""
    UNSATURATED = "not saturated"
    """At some reading fewer sequences ran than the batch limit, and none waited."""
    UNSTEADY = "windows differ"
    """The windows differ so much that the interval is wider than 25 % either way: something else,
    such as a busy host, disturbed the measurement."""
    YOUNG = "batch not turned over"
    """The windows began before every place of the batch had ended a request, so that contexts were
    shorter than in a long run."""
    UNSETTLED = "not settled"
    """The temperature still moved when the windows began."""
    CLOCK = "clock not held"
    """The GPU's mean clock differed from the limit."""
    UNWATCHED = "GPU not watched"
    """Its sensors cannot be read from here, so throttling and sharing would not be noticed."""


REFUSED = frozenset({Flag.THROTTLED, Flag.SHARED, Flag.STALE, Flag.UNSATURATED, Flag.CLOCK})
"""With one of these a point is left out of the frontier and of comparisons."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One point to measure: limits and load.

    Attributes:
        phase: What the load consists of.
        clock_mhz: SM clock limit, MHz; 0 where it cannot be set.
        batch_limit: Batch limit.
        prompt_tokens: Mean prompt length, tokens.
        output_tokens: Mean output length, tokens.
        sample: Digest of the `LengthSample` that the requests come from; empty where lengths lie
            around the means.
    """

    phase: Phase
    clock_mhz: int
    batch_limit: int
    prompt_tokens: int
    output_tokens: int
    sample: str = ""

    @property
    def key(self) -> str:
        """The name of the point in a results file."""
        lengths = f"p{self.prompt_tokens} o{self.output_tokens}"
        lengths += f" s{self.sample}" if self.sample else ""
        return f"{self.phase} c{self.clock_mhz} b{self.batch_limit} {lengths}"

    @property
    def seed(self) -> int:
        """A seed of its own for the bootstrap, so that a result reads the same each time."""
        return zlib.crc32(self.key.encode())


@dataclass(frozen=True, slots=True)
class MeasuredWindow:
    """What a replica did between two readings.

    Attributes:
        duration_s: Length, s.
        energy_j: Energy of its GPUs, J.
        error_j: Bound of the meter's error, J.
        steps: Engine steps; 0 where they are not counted.
        prompt_tokens: Prompt tokens computed.
        output_tokens: Tokens sampled.
    """

    duration_s: float
    energy_j: float
    error_j: float
    steps: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class ClientTimes:
    """Latencies at the clients while the windows ran, s; None where too few requests ended.

    Attributes:
        requests: Requests behind these times.
        ttft_p50_s: Median time to the first token; waiting for a place is part of it.
        itl_p50_s: Median gap between two chunks with tokens.
        itl_p95_s: 95th percentile of it.
        itl_p99_s: 99th percentile of it.
    """

    requests: int = 0
    ttft_p50_s: float | None = None
    itl_p50_s: float | None = None
    itl_p95_s: float | None = None
    itl_p99_s: float | None = None


@dataclass(frozen=True, slots=True)
class GpuSummary:
    """Readings of the GPUs' sensors while the windows ran; None where they cannot be read.

    Attributes:
        clock_mhz: Mean SM clock of the slowest GPU, MHz.
        start_c: Temperature of the warmest GPU at the beginning, degrees Celsius.
        end_c: The same at the end.
        reasons: Reasons for a clock below its highest, each read at least once.
        processes: Most processes that held memory on one GPU.
    """

    clock_mhz: float | None = None
    start_c: int | None = None
    end_c: int | None = None
    reasons: tuple[str, ...] = ()
    processes: int | None = None


@dataclass(frozen=True, slots=True)
class PointResult:
    """One measured point.

    Attributes:
        setting: What was set.
        replica: Name of the measured replica.
        started: When, ISO 8601 with zone.
        warm_up_s: Time under load before the first window, s.
        windows: Back to back.
        meter_error_j: Bound of the meter's error over all windows together, J: inner ends cancel.
        meter: Quality of the joules: counter, integrated, estimated or emulated.
        client: Latencies at the clients.
        gpu: Readings of the sensors.
        flags: What was wrong; empty when nothing was.
    """

    setting: Setting
    replica: str
    started: str
    warm_up_s: float
    windows: tuple[MeasuredWindow, ...]
    meter_error_j: float
    meter: str
    client: ClientTimes
    gpu: GpuSummary
    flags: tuple[Flag, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found that forbids its use."""
        return not REFUSED & set(self.flags) and self.estimates is not None

    @property
    def estimates(self) -> Estimates | None:
        """Rates with their confidence intervals; None when no token came."""
        if not any(window.output_tokens for window in self.windows):
            return None
        return Estimates.of(self.windows, self.meter_error_j, self.setting.seed)


@dataclass(frozen=True, slots=True)
class Estimates:
    """Rates over windows, each with its 95 % confidence interval.

    Intervals of energies also contain the bound of the meter's error. None reaches below 0: where
    windows differ much, the stretched bootstrap interval would, although no rate or energy can.

    Attributes:
        energy_per_output_token: J.
        energy_per_prompt_token: J; None where no prompt was computed.
        output_tokens_per_joule: Its inverse.
        output_tps: Output tokens/s.
        draw_w: Mean draw, W.
    """

    energy_per_output_token: Interval
    energy_per_prompt_token: Interval | None
    output_tokens_per_joule: Interval
    output_tps: Interval
    draw_w: Interval

    @classmethod
    def of(cls, windows: Sequence[MeasuredWindow], meter_error_j: float, seed: int) -> Estimates:
        """Estimate from windows of which at least one gave an output token."""
        rng = np.random.default_rng(seed)
        energy_j = [window.energy_j for window in windows]
        spans_s = [window.duration_s for window in windows]
        outputs = [float(window.output_tokens) for window in windows]
        prompts = [float(window.prompt_tokens) for window in windows]
        per_output = ratio_interval(energy_j, outputs, rng).widened(meter_error_j / sum(outputs))
        per_prompt = None
        if sum(prompts) > 0:
            per_prompt = ratio_interval(energy_j, prompts, rng)
            per_prompt = per_prompt.widened(meter_error_j / sum(prompts)).above_zero()
        draw = ratio_interval(energy_j, spans_s, rng).widened(meter_error_j / math.fsum(spans_s))
        return cls(
            energy_per_output_token=per_output.above_zero(),
            energy_per_prompt_token=per_prompt,
            output_tokens_per_joule=per_output.inverse(),
            output_tps=ratio_interval(outputs, spans_s, rng).above_zero(),
            draw_w=draw.above_zero(),
        )


@dataclass(frozen=True, slots=True)
class RestWatts:
    """What GPUs draw without work, W a replica; None where it was not measured.

    Attributes:
        bare_w: Before any engine held a GPU.
        loaded_idle_w: An engine is loaded, no request, the clock free.
        floor_idle_w: The same at the lowest clock limit.
        asleep_w: The engine sleeps at the lowest clock limit.
    """

    bare_w: float | None = None
    loaded_idle_w: float | None = None
    floor_idle_w: float | None = None
    asleep_w: float | None = None

    @property
    def idle_w(self) -> float:
        """Best known draw of a loaded replica without requests, W; 0 where nothing is known."""
        return self.floor_idle_w or self.loaded_idle_w or self.bare_w or 0.0

    @property
    def frontier_asleep_w(self) -> float:
        """Draw of a sleeping replica, W; that of an idle one where it was not measured."""
        return self.idle_w if self.asleep_w is None else self.asleep_w
