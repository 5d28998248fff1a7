"""Fits the costs of a step to steps whose time and energy are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from steppe.errors import InfeasibleError
from steppe.roofline.step_costs import ClockCosts, StepCosts, StepTerms

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StepSample:
    """One step, or the mean of many at one clock.

    Attributes:
        clock_mhz: SM clock limit, MHz; 0 if it cannot be set.
        prefills: Whether it computes prompts, 0 or 1; of many steps, the share that does.
        prompt_tokens: Prompt tokens computed.
        sequences: Sequences that decode.
        context_tokens: Tokens of context, summed over these sequences.
        time_s: Time, s.
        energy_j: Energy of the replica's GPUs, J.
    """

    clock_mhz: int
    prefills: float
    prompt_tokens: float
    sequences: float
    context_tokens: float
    time_s: float
    energy_j: float


def fit_step_costs(
    samples: Sequence[StepSample], tokens_per_step: int, kv_tokens: int | None = None
) -> StepCosts:
    """Fit the costs by least squares of the relative error, no coefficient below 0.

    Args:
        samples: Steps at one clock or more, with different work.
        tokens_per_step: Most tokens that the engine computes in a step.
        kv_tokens: Tokens that its KV cache holds; None if unknown.

    Raises:
        InfeasibleError: There are no samples.
    """
    if not samples:
        raise InfeasibleError("asked for the costs of a step, found no step")
    clocks, time_errors, energy_errors = [], [], []
    for clock in sorted({sample.clock_mhz for sample in samples}):
        here = [sample for sample in samples if sample.clock_mhz == clock]
        work = np.array(
            [(1.0, s.prefills, s.sequences, s.prompt_tokens, s.context_tokens) for s in here]
        )
        time, errors = _fit(work, np.array([sample.time_s for sample in here]))
        time_errors.append(errors)
        energy, errors = _fit(work, np.array([sample.energy_j for sample in here]))
        energy_errors.append(errors)
        clocks.append(ClockCosts(clock, time, energy))
    return StepCosts(
        clocks=tuple(clocks),
        tokens_per_step=tokens_per_step,
        kv_tokens=kv_tokens,
        time_error=float(np.median(np.abs(np.concatenate(time_errors)))),
        energy_error=float(np.median(np.abs(np.concatenate(energy_errors)))),
    )


def _fit(work: Floats, costs: Floats) -> tuple[StepTerms, Floats]:
    """Return the terms whose sums come closest to the costs, and the relative errors."""
    terms, _ = nnls(work / costs[:, None], np.ones_like(costs))
    return StepTerms(*terms.tolist()), work @ terms / costs - 1


StepPredictor = Callable[[int, int, int, int], tuple[float, float]]
"""Time, s, and energy, J, of a step by clock, prompt tokens, sequences and tokens of context."""
PROMPT_SHARES = (0.0, 0.0, 0.0, 0.03, 0.12, 0.5, 1.0)
"""Prompt tokens of the steps that are tabulated, share of the most; most steps of a replica
compute none, so those count more."""
SEQUENCE_SHARES = (0.0, 0.06, 0.25, 0.5, 0.75, 1.0)
"""Decoding sequences of these steps, share of the most; at least one."""
CONTEXTS = (256, 1024, 4096)
"""Their mean contexts, tokens."""


@dataclass(frozen=True, slots=True)
class StepRange:
    """Which steps an engine runs.

    Attributes:
        tokens: Most tokens that it computes in a step.
        prompt_tokens: Most prompt tokens among them.
        sequences: Most sequences that decode at once.
        kv_tokens: Tokens that its KV cache holds.
    """

    tokens: int
    prompt_tokens: int
    sequences: int
    kv_tokens: int


def tabulated(predict: StepPredictor, clocks_mhz: Sequence[int], steps: StepRange) -> StepCosts:
    """Return the costs that come closest to a model of steps.

    Args:
        predict: The model.
        clocks_mhz: Clocks to fit at, MHz.
        steps: The steps to fit.
    """
    works = [
        (round(share * steps.prompt_tokens), sequences, sequences * context)
        for share in PROMPT_SHARES
        for sequences in (max(1, round(part * steps.sequences)) for part in SEQUENCE_SHARES)
        for context in CONTEXTS
        if sequences * context <= steps.kv_tokens
    ]
    works = works or [(0, 1, 1), (1, 0, 0), (0, 1, 2)]
    samples = []
    for clock in clocks_mhz:
        for prompt, sequences, context in works:
            time_s, energy_j = predict(clock, prompt, sequences, context)
            prefills = float(prompt > 0)
            samples.append(
                StepSample(clock, prefills, prompt, sequences, context, time_s, energy_j)
            )
    return fit_step_costs(samples, steps.tokens, steps.kv_tokens)
