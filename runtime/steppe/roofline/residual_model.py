"""What the formula misses, learnt from models that resemble this one.

A Gaussian process (Rasmussen & Williams 2006, eq. 2.23) over the logarithm of measured over
modelled: a model that resembles none of the measured ones keeps the plain formula. For a model on
its GPUs the corrections are tabulated once, so that a step looks them up quickly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from steppe.roofline.architecture.shape import ModelShape
from steppe.roofline.hardware import GpuSpec, Host

Floats = NDArray[np.float64]

AMPLITUDE = 0.12
"""Standard deviation of the formula's error, as a logarithm."""
MOST_RESIDUAL = 0.4
"""Residuals are clipped to this, as logarithms: larger ones stem from a faulty machine."""
NOISE = 0.08
"""Standard deviation between equal runs on different machines, as a logarithm."""

OWN_NOISE = 0.02
"""Standard deviation between equal runs on one machine, as a logarithm."""
BATCHES = 13
"""Powers of two from 1 to 4096."""
_FIRST_CONTEXT = 6
CONTEXTS = 11
"""Powers of two from 64 to 65536 tokens."""
PREFILLED = 16.0
"""Prompt tokens for each output token up to which a larger batch must yield more tokens/s."""

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Residual:
    """Difference between one measurement and the formula.

    Attributes:
        features: The features of its context; see `features_of`.
        log_time: Logarithm of measured over modelled time per token.
        log_draw: Logarithm of measured over modelled draw.
        noise: Standard deviation of a repetition on another machine, as a logarithm.
    """

    features: tuple[float, ...]
    log_time: float
    log_draw: float
    noise: float = NOISE


@dataclass(frozen=True, slots=True)
class Context:
    """What a measurement or a prediction is of.

    Attributes:
        model: The model.
        gpu: Each GPU.
        gpus: Number of GPUs that share the model.
        batch: Sequences that decode at once.
        context_tokens: Mean context of one of them.
        host: Other load on their host.
        data_parallel: Whether attention runs data-parallel.
    """

    model: ModelShape
    gpu: GpuSpec
    gpus: int
    batch: float
    context_tokens: float
    host: Host
    data_parallel: bool = False


def features_of(context: Context) -> tuple[float, ...]:
    """Return the features by which contexts resemble each other.

    Two contexts at a Euclidean distance of 1 share exp(-1/2) of the formula's error.
    """
    model, gpus = context.model, context.gpus
    precision, experts = model.precision.on(context.gpu.has_fp8), model.experts
    routed = experts.layers * experts.per_token * experts.params
    return (
        math.log(context.batch) / 1.5,
        math.log(context.context_tokens) / 2.0,
        math.log((model.dense_params + routed) / gpus),
        math.log(model.weight_bytes / gpus) / 1.5,
        0.9 * (experts.layers > 0),
        0.7 * (gpus > 1),
        0.8 * math.log(context.gpu.bandwidth_bps / 3.35e12),
        1.0 * (precision.dense_fp8 > 0) + 0.5 * precision.expert_fp8,
        0.9 * (model.states.layers > 0),
        model.attention.extra_norms / 3.0,
        math.log(model.hidden) / 1.2,
        math.log(model.layers) / 1.0,
        1.0 * precision.expert_fp4,
        context.host.crowding / 56e3,
        1.5 * (context.data_parallel and gpus > 1),
    )


@dataclass(frozen=True, slots=True)
class ResidualModel:
    """A Gaussian process over known residuals.

    Attributes:
        features: One row each.
        time_weights: Weights of the rows for the time.
        draw_weights: Weights of the rows for the draw.
    """

    features: Floats
    time_weights: Floats
    draw_weights: Floats

    @classmethod
    def of(cls, residuals: Sequence[Residual]) -> ResidualModel:
        """Learn from residuals; without any the formula stays as it is."""
        if not residuals:
            return cls(np.empty((0, 0)), np.empty(0), np.empty(0))
        features = np.array([r.features for r in residuals], dtype=float)
        values = np.array([[r.log_time, r.log_draw] for r in residuals], dtype=float)
        shared = _kernel(features, features) + np.diag([r.noise**2 for r in residuals])
        weights = np.linalg.solve(shared, values)
        return cls(features, weights[:, 0], weights[:, 1])

    def corrections(self, points: Sequence[tuple[float, ...]]) -> tuple[Floats, Floats]:
        """Return the logarithms by which time and draw are corrected at some points."""
        if not len(self.features):
            return np.zeros(len(points)), np.zeros(len(points))
        shared = _kernel(np.array(points, dtype=float), self.features)
        return shared @ self.time_weights, shared @ self.draw_weights


def _kernel(a: Floats, b: Floats) -> Floats:
    squares = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    shared: Floats = AMPLITUDE**2 * np.exp(-0.5 * squares)
    return shared


@dataclass(frozen=True, slots=True)
class Correction:
    """Factors on time and draw over batch (rows) and mean context (columns), by powers of two.

    Attributes:
        time: Factor on the time of a step.
        draw: Factor on its draw.
    """

    time: Rows
    draw: Rows

    @classmethod
    def of(
        cls,
        residual_model: ResidualModel,
        context: Context,
        step_s: Callable[[float, float, float], float],
    ) -> Correction:
        """Tabulate the corrections, limited so that a larger batch always yields more tokens/s.

        Args:
            residual_model: The known residuals.
            context: The model and its GPUs; its batch and context length are not used.
            step_s: Uncorrected time of a step, s, by sequences, mean context, and prompt tokens
                for each sequence.
        """
        grid = [
            replace(context, batch=2.0**i, context_tokens=2.0 ** (_FIRST_CONTEXT + j))
            for i in range(BATCHES)
            for j in range(CONTEXTS)
        ]
        log_time, log_draw = residual_model.corrections([features_of(c) for c in grid])
        shape = (BATCHES, CONTEXTS)
        lightest, heaviest = (
            np.array([step_s(c.batch, c.context_tokens, prompts) for c in grid]).reshape(shape)
            for prompts in (0.0, PREFILLED)
        )
        time = _rising(lightest, heaviest, np.exp(log_time).reshape(shape))
        return cls(_rows(time), _rows(np.exp(log_draw).reshape(shape)))

    def factors(self, sequences: float, context_tokens: float) -> tuple[float, float]:
        """Return the factors on time and draw for sequences with this context, summed over them."""
        x = math.log2(sequences) if sequences > 1 else 0.0
        mean = context_tokens / sequences if sequences > 0 else 0.0
        y = math.log2(mean) - _FIRST_CONTEXT if mean > 64.0 else 0.0
        x, y = min(x, BATCHES - 1.001), min(y, CONTEXTS - 1.001)
        i, j = int(x), int(y)
        return _between(self.time, i, j, x - i, y - j), _between(self.draw, i, j, x - i, y - j)


def _between(table: Rows, i: int, j: int, right: float, down: float) -> float:
    """Return the bilinear mean of four neighbours."""
    row, following = table[i], table[i + 1]
    here = row[j] + down * (row[j + 1] - row[j])
    there = following[j] + down * (following[j + 1] - following[j])
    return here + right * (there - here)


def _rising(lightest: Floats, heaviest: Floats, factors: Floats) -> Floats:
    """Limit the factors: a step with a larger batch takes longer, but less for each sequence."""
    limited = factors.copy()
    for i in range(1, len(limited)):
        least = limited[i - 1] * lightest[i - 1] / lightest[i]
        most = 1.99 * limited[i - 1] * heaviest[i - 1] / heaviest[i]
        limited[i] = np.clip(limited[i], least, most)
    return limited


def _rows(table: Floats) -> Rows:
    return tuple(tuple(float(value) for value in row) for row in table)
