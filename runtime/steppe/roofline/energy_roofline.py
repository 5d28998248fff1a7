"""The energy roofline: a model's tokens per second and watts on a GPU, without a measurement.

Time and energy of an engine step follow from what it streams and computes (`step_rates`,
`step_law`). What that misses is learnt from models that resemble this one (`residual_model`).
The result is modelled, never measured: `bench/frontier_error.py` compares it with public
measurements, and `expected_error` holds the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import log

from steppe.errors import UsageError
from steppe.roofline.architecture.shape import ModelShape
from steppe.roofline.calibration import Calibration, with_probed_energies
from steppe.roofline.hardware import ALONE, GpuSpec, Host, Sharding
from steppe.roofline.point import OperatingPoint
from steppe.roofline.residual_model import (
    MOST_RESIDUAL,
    OWN_NOISE,
    Context,
    Correction,
    Residual,
    ResidualModel,
    features_of,
)
from steppe.roofline.saturation import (
    STEADY_SERVICE,
    RunProgress,
    free_bytes,
    running_sequences,
    steady_state,
)
from steppe.roofline.step_law import StepLaw, StepStages
from steppe.roofline.step_rates import step_rates


@dataclass(frozen=True, slots=True)
class StepWork:
    """The work of one engine step.

    Attributes:
        prefill_tokens: Prompt tokens, summed over all requests.
        decode_sequences: Sequences that decode one token each.
        context_tokens: Tokens whose keys and values these sequences read, summed over them.
    """

    prefill_tokens: int
    decode_sequences: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class TokenEnergy:
    """The energy of a token in a busy replica at full clock.

    Attributes:
        sequence_j: A sequence's share of the fixed energy of a step, J.
        prompt_j: One prompt token, J.
        decode_j: One decoded token, J.
    """

    sequence_j: float
    prompt_j: float
    decode_j: float


class EnergyRoofline:
    """One replica: a model on some GPUs that share it.

    Args:
        model: The model.
        gpu: Each of its GPUs.
        tp: Number of GPUs: dense weights are split over them, experts spread.
        calibration: Fitted coefficients and their residuals.
        host: Other load on its host.
        data_parallel: Whether attention runs data-parallel instead; see `Sharding`. The
            measurements of that are of one model on B200.

    Raises:
        UsageError: The GPUs cannot split the heads, or do not hold the weights.
        ConfigError: There are no coefficients for this GPU.
    """

    def __init__(
        self,
        model: ModelShape,
        gpu: GpuSpec,
        tp: int,
        calibration: Calibration,
        host: Host = ALONE,
        *,
        data_parallel: bool = False,
    ) -> None:
        self.model, self.gpu, self.tp = model, gpu, tp
        self.calibration, self.host = calibration, host
        self.data_parallel = data_parallel
        self._sharding = _sharding(model, gpu, tp, data_parallel)
        fitted = with_probed_energies(calibration.of(gpu), gpu)
        self._rates = step_rates(model, gpu, self._sharding, fitted, host)
        self._law = StepLaw.of(gpu, fitted, calibration.curve_of(gpu))
        residual_model = ResidualModel.of(calibration.residuals)
        self._correction = Correction.of(residual_model, self._context(1.0, 1.0), self._plain_s)

    def step(self, work: StepWork, clock_mhz: float) -> tuple[float, float]:
        """Return time (s) and mean draw over all GPUs (W) of a step under a clock limit."""
        sequences, context = work.decode_sequences, work.context_tokens
        padding = work.prefill_tokens * (self._rates.padded(1.0) - 1.0)
        stages = self._rates.stages(work.prefill_tokens, sequences, context, padding)
        return self._corrected(stages, sequences, context, clock_mhz)

    def step_s(self, work: StepWork, clock_mhz: float) -> float:
        """Return how long a step takes under a clock limit, s."""
        return self.step(work, clock_mhz)[0]

    def step_draw_w(self, work: StepWork, clock_mhz: float) -> float:
        """Return the mean draw of all GPUs over a step under a clock limit, W."""
        return self.step(work, clock_mhz)[1]

    def idle_w(self, clock_mhz: float) -> float:
        """Return the draw of all GPUs with a context and no work, under a clock limit, W."""
        return self._law.idle(self._relative(clock_mhz)) * self.limit_w

    @property
    def asleep_w(self) -> float:
        """Draw of all GPUs at their lowest clock, with a context, W."""
        return self.idle_w(self.gpu.lowest_mhz)

    @property
    def limit_w(self) -> float:
        """Sum of the power limits of all GPUs, W."""
        return self.gpu.power_limit_w * self.tp

    def running_sequences(
        self,
        batch_limit: int,
        input_tokens: float,
        output_tokens: float,
        progress: RunProgress = STEADY_SERVICE,
    ) -> float:
        """Return how many sequences of this length decode at once, limited by batch and memory."""
        each = self.model.sequence_bytes(input_tokens + progress.decoded_share * output_tokens)
        return running_sequences(self.model, self.gpu, self._sharding, batch_limit, each)

    def fits(self, tokens: int) -> bool:
        """Return whether the memory beside the weights holds one request of this length."""
        free = free_bytes(self.model, self.gpu, self._sharding) * self._sharding.kv_split
        return self.model.sequence_bytes(tokens) <= free

    def point(
        self,
        clock_mhz: int,
        batch_limit: int,
        input_tokens: float,
        output_tokens: float,
        progress: RunProgress = STEADY_SERVICE,
    ) -> OperatingPoint:
        """Return what the replica does at saturation.

        Args:
            clock_mhz: SM clock limit, MHz.
            batch_limit: Most sequences decoded at once.
            input_tokens: Mean prompt of a request, tokens.
            output_tokens: Mean output of a request, tokens.
            progress: How far the outputs have come.
        """
        sequences = self.running_sequences(batch_limit, input_tokens, output_tokens, progress)
        state = steady_state(self._rates, sequences, input_tokens, output_tokens, progress)
        context = sequences * (input_tokens + progress.decoded_share * output_tokens)
        decode_s, decode_w = self._corrected(state.decode, sequences, context, clock_mhz)
        mixed_s, mixed_w = self._corrected(state.mixed, sequences, context, clock_mhz)
        share = state.mixed_share
        step_s = (1.0 - share) * decode_s + share * mixed_s
        energy_j = (1.0 - share) * decode_s * decode_w + share * mixed_s * mixed_w
        return OperatingPoint(
            clock_mhz, batch_limit, sequences / step_s, energy_j / step_s, tpot_s=step_s
        )

    def token_weights(self, sequences: int = 32, context_tokens: int = 1024) -> TokenEnergy:
        """Return the energy of tokens at full clock beside other sequences of a mean context."""
        full = self.gpu.highest_mhz
        base_j = self._step_j(StepWork(0, sequences, sequences * context_tokens), full)
        prompt = StepWork(256, sequences, sequences * context_tokens)
        more = StepWork(0, 2 * sequences, 2 * sequences * context_tokens)
        decode_j = max((self._step_j(more, full) - base_j) / sequences, 0.0)
        prompt_j = max((self._step_j(prompt, full) - base_j) / 256, 0.0)
        return TokenEnergy(max(base_j / sequences - decode_j, 0.0), prompt_j, decode_j)

    def refitted(
        self, measured: Iterable[OperatingPoint], input_tokens: float, output_tokens: float
    ) -> EnergyRoofline:
        """Return a roofline that is also fitted to measured points of this very model and GPU."""
        residuals = tuple(self._residual(p, input_tokens, output_tokens) for p in measured)
        return self._with(
            replace(self.calibration, residuals=self.calibration.residuals + residuals)
        )

    def _with(self, calibration: Calibration) -> EnergyRoofline:
        return EnergyRoofline(
            self.model, self.gpu, self.tp, calibration, self.host, data_parallel=self.data_parallel
        )

    def _residual(
        self, point: OperatingPoint, input_tokens: float, output_tokens: float
    ) -> Residual:
        formula = self._with(replace(self.calibration, residuals=()))
        modelled = formula.point(point.clock_mhz, point.batch_limit, input_tokens, output_tokens)
        sequences = self.running_sequences(point.batch_limit, input_tokens, output_tokens)
        context = self._context(
            sequences, input_tokens + STEADY_SERVICE.decoded_share * output_tokens
        )
        time = log(modelled.output_tps / point.output_tps)
        draw = log(point.draw_w / modelled.draw_w)
        return Residual(
            features_of(context),
            min(max(time, -MOST_RESIDUAL), MOST_RESIDUAL),
            min(max(draw, -MOST_RESIDUAL), MOST_RESIDUAL),
            OWN_NOISE,
        )

    def _context(self, batch: float, context_tokens: float) -> Context:
        return Context(
            model=self.model,
            gpu=self.gpu,
            gpus=self.tp,
            batch=batch,
            context_tokens=context_tokens,
            host=self.host,
            data_parallel=self.data_parallel,
        )

    def _relative(self, clock_mhz: float) -> float:
        return min(max(clock_mhz, self.gpu.lowest_mhz), self.gpu.highest_mhz) / (
            self.gpu.highest_mhz
        )

    def _plain_s(self, sequences: float, context_tokens: float, prompt_each: float) -> float:
        """Return the uncorrected time of a step at full clock, s."""
        stages = self._rates.stages(prompt_each * sequences, sequences, sequences * context_tokens)
        return self._law.regulated(stages, 1.0)[0]

    def _corrected(
        self, stages: StepStages, sequences: float, context_tokens: float, clock_mhz: float
    ) -> tuple[float, float]:
        clock = self._relative(clock_mhz)
        step_s, draw = self._law.regulated(stages, clock)
        time_factor, draw_factor = self._correction.factors(sequences, context_tokens)
        draw = min(max(draw * draw_factor, self._law.idle(clock)), 1.0)
        return step_s * time_factor, draw * self.limit_w

    def _step_j(self, work: StepWork, clock_mhz: float) -> float:
        step_s, draw_w = self.step(work, clock_mhz)
        return step_s * draw_w


def _sharding(model: ModelShape, gpu: GpuSpec, tp: int, data_parallel: bool) -> Sharding:
    heads = model.attention.query_heads
    if tp < 1 or (heads % tp and not data_parallel):
        raise UsageError(f"asked for tp {tp}, found {heads} attention heads in {model.name}")
    kv_heads = model.attention.kv_heads
    if kv_heads % tp and tp % kv_heads and not data_parallel:  # as vLLM's attention layers require
        raise UsageError(f"asked for tp {tp}, found {kv_heads} key/value heads in {model.name}")
    if tp > 1 and not gpu.link_bps:
        raise UsageError(f"asked for tp {tp}, found link_bps 0: no link between two {gpu.name}")
    sharding = Sharding.over(tp, kv_heads, data_parallel=data_parallel)
    if free_bytes(model, gpu, sharding) <= 0:
        raise UsageError(
            f"asked for {model.name} on {tp} x {gpu.name}, found {model.weight_bytes / 1e9:.0f} GB "
            f"of weights{', the dense ones on each GPU,' if data_parallel else ''} "
            f"for {tp} x {gpu.memory_bytes / 1e9:.0f} GB of memory"
        )
    return sharding
