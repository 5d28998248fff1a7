"""Fit the coefficients of the energy roofline to a table of saturated runs.

Maximum a posteriori in the logarithm of every coefficient: a prior says what a coefficient may
be by its nature, and how far two GPUs may differ in it; the errors of time, draw and energy
count robustly (pseudo-Huber), for a table mixes machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from roofline_priors import PRIORS, PROMPT_TOKENS
from steppe.roofline.architecture.shape import ModelShape
from steppe.roofline.calibration import Calibration, Coefficients
from steppe.roofline.hardware import ClockCurve, GpuSpec, Host, Sharding
from steppe.roofline.residual_model import MOST_RESIDUAL, Context, Floats, Residual, features_of
from steppe.roofline.saturation import STEADY_SERVICE, RunProgress, running_sequences, steady_state
from steppe.roofline.step_law import StepLaw
from steppe.roofline.step_rates import step_rates

ERROR = 0.07
"""Usual error, as a logarithm: larger ones count less."""
MOST_STEPS = 200
"""Most steps of a fit; those of the public table take 40 to 60."""
RARE_PREFILL = 0.25
"""Below this share of mixed steps the median ITL is that of a step that only decodes."""


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One saturated run.

    Attributes:
        model: The model.
        gpu: Each of its GPUs.
        gpus: How many.
        batch_limit: Most sequences.
        task: Its kind of requests; runs of a task share their prompt length.
        output_tokens: Mean output tokens of a request.
        output_tps: Output tokens per second.
        draw_w: Draw of all GPUs, W.
        itl_s: Median time between two tokens, s.
        fitted: Whether the fit may use it.
        host: Other load on its host.
        data_parallel: Whether attention ran data-parallel.
        progress: How far the outputs had come.
    """

    model: ModelShape
    gpu: GpuSpec
    gpus: int
    batch_limit: int
    task: str
    output_tokens: float
    output_tps: float
    draw_w: float
    itl_s: float
    fitted: bool
    host: Host
    data_parallel: bool = False
    progress: RunProgress = STEADY_SERVICE


def stacked(values: Sequence[Any]) -> Any:
    """Return one value of the same type whose numbers are arrays, one element for each value."""
    first: Any = values[0]
    if is_dataclass(first) and not isinstance(first, type):
        parts = {f.name: stacked([getattr(v, f.name) for v in values]) for f in fields(first)}
        return type(first)(**parts)
    return np.array(values, dtype=float) if isinstance(first, int | float) else first


@dataclass(frozen=True, slots=True)
class Modelled:
    """The prediction of the formula for some runs, one element each.

    Attributes:
        output_tps: Output tokens per second.
        draw_w: Draw of all GPUs, W.
        decode_s: Time of a step that only decodes, s.
    """

    output_tps: Floats
    draw_w: Floats
    decode_s: Floats


class RooflineFit:
    """The runs of a table, and their fit.

    Args:
        runs: The runs.
        curves: How time and draw follow the clock, by name, as in `GpuSpec.clock_curve`.
    """

    def __init__(self, runs: Sequence[MeasuredRun], curves: Mapping[str, ClockCurve]) -> None:
        self.runs, self.curves = tuple(runs), curves
        known = Calibration({}, curves, ())
        self._curve = stacked([known.curve_of(run.gpu) for run in runs])
        self.gpu_names = sorted({run.gpu.coefficients for run in runs})
        self._gpu_of = np.array([self.gpu_names.index(run.gpu.coefficients) for run in runs])
        self._model = stacked([run.model for run in runs])
        self._gpu = stacked([run.gpu for run in runs])
        self._sharding = stacked([_sharding(run) for run in runs])
        self._host = stacked([run.host for run in runs])
        self._progress = stacked([run.progress for run in runs])
        self._batch = np.array([run.batch_limit for run in runs], dtype=float)
        self._output = np.array([run.output_tokens for run in runs])
        self._tps = np.array([run.output_tps for run in runs])
        self._draw_w = np.array([run.draw_w for run in runs])
        self._itl_s = np.array([run.itl_s for run in runs])
        self._rare = self._batch / self._output < RARE_PREFILL
        self._fitted = np.array([run.fitted for run in runs])
        self._priors = {**PRIORS, **PROMPT_TOKENS}
        self.names = tuple(self._priors)
        differing = [n for n in self.names if self._priors[n].between > 0]
        self._differing = np.array([self.names.index(n) for n in differing])
        medians = np.log([p.median for p in self._priors.values()])
        more = len(self.gpu_names) - 1
        self.prior = np.concatenate([medians, np.zeros(more * len(differing))])
        between = [self._priors[n].between for n in differing] * more
        self._spread = np.array([p.spread for p in self._priors.values()] + between)

    def coefficients(self, x: Floats, gpu: int) -> dict[str, float]:
        """Return the fitted numbers of one GPU, and the prompt lengths."""
        values = x[: len(self.names)].copy()
        if gpu:
            count = len(self._differing)
            start = len(self.names) + (gpu - 1) * count
            values[self._differing] += x[start : start + count]
        return dict(zip(self.names, np.exp(values).tolist(), strict=True))

    def modelled(self, x: Floats) -> Modelled:
        """Return the formula's prediction for every run with the coefficients `x`."""
        sets = [self.coefficients(x, gpu) for gpu in range(len(self.gpu_names))]
        by_run = {n: np.array([s[n] for s in sets])[self._gpu_of] for n in PRIORS}
        fitted: Any = Coefficients(**by_run)
        prompt: Any = np.array([sets[0][run.task] for run in self.runs])
        batch: Any = self._batch
        output: Any = self._output
        rates = step_rates(self._model, self._gpu, self._sharding, fitted, self._host)
        each = self._model.sequence_bytes(prompt + self._progress.decoded_share * output)
        held: Any = running_sequences(self._model, self._gpu, self._sharding, batch, each)
        state = steady_state(rates, held, prompt, output, self._progress)
        law = StepLaw.of(self._gpu, fitted, self._curve)
        decode: Any = law.regulated(state.decode, 1.0)
        mixed: Any = law.regulated(state.mixed, 1.0)
        share: Any = state.mixed_share
        step_s = (1 - share) * decode[0] + share * mixed[0]
        energy = (1 - share) * decode[0] * decode[1] + share * mixed[0] * mixed[1]
        limit_w = self._gpu.power_limit_w * self._sharding.gpus
        return Modelled(held / step_s, energy / step_s * limit_w, decode[0])

    def fit(self, used: NDArray[np.bool_]) -> Floats:
        """Return the coefficients that fit some of the runs best, from the priors on.

        Raises:
            RuntimeError: The steps did not end at a minimum.
        """
        chosen = used & self._fitted
        found = least_squares(self._residuals, self.prior, args=(chosen,), max_nfev=MOST_STEPS)
        if not found.success:
            raise RuntimeError(
                f"asked for a fit of {chosen.sum()} runs, found none in {MOST_STEPS} steps"
            )
        best: Floats = found.x
        return best

    def errors(self, x: Floats, used: NDArray[np.bool_]) -> Floats:
        """Return standard errors of the logarithms of the coefficients, by the curvature."""
        found = least_squares(self._residuals, x, args=(used & self._fitted,), max_nfev=1)
        covariance = np.linalg.inv(found.jac.T @ found.jac)
        deviations: Floats = np.sqrt(np.diag(covariance))
        return deviations

    def prompt_tokens(self, x: Floats) -> dict[str, float]:
        """Return the prompt length of each task, tokens."""
        values = self.coefficients(x, 0)
        return {task: values[task] for task in PROMPT_TOKENS}

    def calibration(self, x: Floats, used: NDArray[np.bool_]) -> Calibration:
        """Return the coefficients `x`, and the residuals of some of the runs."""
        modelled, prompts = self.modelled(x), self.prompt_tokens(x)
        time = np.clip(np.log(modelled.output_tps / self._tps), -MOST_RESIDUAL, MOST_RESIDUAL)
        draw = np.clip(np.log(self._draw_w / modelled.draw_w), -MOST_RESIDUAL, MOST_RESIDUAL)
        residuals = tuple(
            Residual(features_of(context_of(run, prompts)), float(time[i]), float(draw[i]))
            for i, run in enumerate(self.runs)
            if used[i] and run.fitted
        )
        sets = {}
        for number, name in enumerate(self.gpu_names):
            values = self.coefficients(x, number)
            sets[name] = Coefficients(**{n: values[n] for n in PRIORS})
        return Calibration(sets, self.curves, residuals)

    def _residuals(self, x: Floats, used: NDArray[np.bool_]) -> Floats:
        modelled = self.modelled(x)
        time = np.log(modelled.output_tps / self._tps)[used]
        draw = np.log(modelled.draw_w / self._draw_w)[used]
        itl = 0.5 * np.log(modelled.decode_s / self._itl_s)[used & self._rare]
        errors = np.concatenate([time, draw, draw - time, itl]) / ERROR
        robust = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
        return np.concatenate([robust, (x - self.prior) / self._spread])


def context_of(run: MeasuredRun, prompt_tokens: Mapping[str, float]) -> Context:
    """Return the context of a run."""
    context = prompt_tokens[run.task] + run.progress.decoded_share * run.output_tokens
    each = run.model.sequence_bytes(context)
    held = running_sequences(run.model, run.gpu, _sharding(run), run.batch_limit, each)
    return Context(run.model, run.gpu, run.gpus, held, context, run.host, run.data_parallel)


def _sharding(run: MeasuredRun) -> Sharding:
    heads = run.model.attention.kv_heads
    return Sharding.over(run.gpus, heads, data_parallel=run.data_parallel)
