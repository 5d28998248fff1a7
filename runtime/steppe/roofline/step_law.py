"""Time and energy of one engine step, in closed form.

    stage = ((stream g)^q + (compute / c)^q)^(1/q)      dense layers, and expert layers
    GPU   = stages + cache g + launch (1 + 1/c) / 2 + exchange
    step  = (GPU^h + host^h)^(1/h)                      the host prepares one step ahead

with c the clock over the highest and g the slowdown of memory at that clock. Energy is the idle
and busy draw over the step, plus a share for every byte streamed and FLOP computed, which falls
with the square of the voltage. All numbers may be floats (serving, simulating) or arrays
(fitting: one element for each run).
"""

from __future__ import annotations

from dataclasses import dataclass

from steppe.roofline.architecture.shape import least
from steppe.roofline.calibration import Coefficients
from steppe.roofline.hardware import ClockCurve, GpuSpec

MEMORY_CHIP_SHARE = 0.25
"""Share of the streaming energy that the memory chips draw, independent of the GPU's voltage:
about 30 pJ/byte of HBM3 over the total energy of a byte. Assumed."""
REGULATED = 0.985
"""Draw of a board at its power limit, share of the limit: 690 W of 700 in ML.ENERGY."""
_SOFTNESS = 12.0
_CLOCK_BY_DRAW = 0.6
"""A fixed-point step: the draw rises with about the 1.6th power of the clock."""
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class StepStages:
    """The stages of one step at the highest clock.

    Attributes:
        dense_stream_s: Streaming dense weights, s.
        dense_compute_s: Multiplying them, s.
        expert_stream_s: Streaming experts, s.
        expert_compute_s: Multiplying them, s.
        cache_s: Streaming keys, values and states, s.
        launch_s: Launching kernels, sampling and moving activations, s.
        exchange_s: GPUs exchanging activations, s.
        host_s: The host's part, s.
        core_energy: Energy in the cores of one GPU, over its power limit, s.
        stream_energy: Energy of streaming into one GPU, over its power limit, s.
    """

    dense_stream_s: float
    dense_compute_s: float
    expert_stream_s: float
    expert_compute_s: float
    cache_s: float
    launch_s: float
    exchange_s: float
    host_s: float
    core_energy: float
    stream_energy: float


@dataclass(frozen=True, slots=True)
class StepLaw:
    """Time and draw of a step's stages at any clock.

    Attributes:
        curve: How time and draw follow the clock.
        overlap: Exponent with which streaming and computing overlap.
        host_overlap: Exponent with which host and GPU overlap.
        bare: Idle draw without a context, share of the power limit.
        context: More with a context at the highest clock, share of the limit.
        busy: More while anything runs at the highest clock, share of the limit.
    """

    curve: ClockCurve
    overlap: float
    host_overlap: float
    bare: float
    context: float
    busy: float

    @classmethod
    def of(cls, gpu: GpuSpec, fitted: Coefficients, curve: ClockCurve) -> StepLaw:
        """Return the law of one GPU."""
        limit_w = gpu.power_limit_w
        return cls(
            curve=curve,
            overlap=fitted.overlap,
            host_overlap=fitted.host_overlap,
            bare=gpu.bare_w / limit_w,
            context=gpu.context_w / limit_w,
            busy=fitted.busy,
        )

    def step_s(self, stages: StepStages, clock: float) -> float:
        """Return the time of a step at a clock, a share of the highest, s."""
        q, h = self.overlap, self.host_overlap
        g = self.curve.streaming(clock)
        dense = (stages.dense_stream_s * g) ** q + (stages.dense_compute_s / clock) ** q
        experts = (stages.expert_stream_s * g) ** q + (stages.expert_compute_s / clock) ** q
        gpu_s = dense ** (1.0 / q) + experts ** (1.0 / q) + stages.cache_s * g
        gpu_s = gpu_s + stages.launch_s * 0.5 * (1.0 + 1.0 / clock) + stages.exchange_s
        whole: float = (gpu_s**h + stages.host_s**h) ** (1.0 / h)
        return whole

    def draw(self, stages: StepStages, clock: float, step_s: float) -> float:
        """Return the mean draw of one GPU over such a step, share of its power limit."""
        voltage = self.curve.voltage(clock)
        v2 = voltage * voltage
        chips = MEMORY_CHIP_SHARE + (1.0 - MEMORY_CHIP_SHARE) * v2
        energy = stages.core_energy * v2 + stages.stream_energy * chips
        return self.bare + (self.context + self.busy) * v2 + energy / step_s

    def regulated(self, stages: StepStages, clock: float) -> tuple[float, float]:
        """Return time and draw of a step under a clock limit and the power limit.

        Near the power limit the board lowers its clock by itself, more often the closer it is. It
        settles at `(draw^-12 + limit^-12)^(-1/12)`, at the clock with that draw.
        """
        step_s = self.step_s(stages, clock)
        draw = self.draw(stages, clock, step_s)
        wanted = (draw**-_SOFTNESS + REGULATED**-_SOFTNESS) ** (-1.0 / _SOFTNESS)
        lowered = clock
        for _ in range(_ROUNDS):
            lowered = least(lowered * (wanted / draw) ** _CLOCK_BY_DRAW, clock)
            step_s = self.step_s(stages, lowered)
            draw = self.draw(stages, lowered, step_s)
        return step_s, draw

    def idle(self, clock: float) -> float:
        """Return the draw of one GPU with a context and no work, share of its power limit."""
        voltage = self.curve.voltage(clock)
        return self.bare + self.context * voltage * voltage
