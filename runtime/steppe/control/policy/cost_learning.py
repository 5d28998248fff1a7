"""Cost stage: what a step really costs, learned from the steps that the fleet runs.

Points of a sweep, or of the roofline, may be wrong in watts and in speed: another GPU, another
release of the engine, a hot summer. Each window gives the time and energy of the steps that ran,
beside what the costs of a step say of the same steps. Two factors on the time, of decoding and of
prompts, and two on the energy explain the difference. They are estimated by recursive least squares
with forgetting (Ljung, System Identification, 1999, section 11.2). Its covariance says how sure the
factors are, and bounds how fast they move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from steppe.control.measurements import ClockWork
from steppe.roofline.step_costs import AS_MODELLED, CostFactors, StepCosts

Floats = NDArray[np.float64]

PRIOR_DEVIATION = 0.5
"""How wrong a factor may be before anything was measured, standard deviation. It also bounds what
is forgotten while nothing is learned."""
NOISE = 0.02
"""Standard deviation of a window's cost around the form of the costs, share."""
KEPT = 0.98
"""Weight of the past after each window: a memory of 50 windows."""
MOST_DEVIATIONS = 3.0
"""Standard deviations by which a window may differ from the expected; beyond, it counts less."""
KEPT_IF_UNLIKELY = 0.9
"""The same after a window that differs by more: costs that have changed are learned in a minute."""
LEAST_FACTOR, MOST_FACTOR = 0.2, 5.0
"""Factors beyond these stem from a broken meter, not from a wrong model."""
LEAST_CHANGE = 0.02
"""Change of a factor for which plans are made anew, share."""
LEAST_STEPS = 10
"""Steps of a window that say something."""


@dataclass(frozen=True, slots=True)
class FactorEstimate:
    """The factors on the costs of decoding and of prompts.

    Attributes:
        decode: Factor of decoding, and of a step as such.
        prompt: Factor of prompts.
        variances: Variance of either, and their covariance.
    """

    decode: float = 1.0
    prompt: float = 1.0
    variances: tuple[float, float, float] = (PRIOR_DEVIATION**2, PRIOR_DEVIATION**2, 0.0)

    def after(self, decode: float, prompt: float, measured: float) -> FactorEstimate:
        """Return the estimate after one window.

        Args:
            decode: Modelled cost of decoding in the window, any unit.
            prompt: Modelled cost of prompts, same unit.
            measured: Measured cost of both, same unit.
        """
        a, b = decode / measured, prompt / measured
        of_decode, of_prompt, joint = self.variances
        gain_decode, gain_prompt = of_decode * a + joint * b, joint * a + of_prompt * b
        error = 1.0 - self.decode * a - self.prompt * b
        total = KEPT * NOISE**2 + a * gain_decode + b * gain_prompt
        # A window far beyond what is likely counts little, as a bad reading would have to. But if
        # many follow, what was known holds no longer, and is forgotten sooner.
        least = (error / MOST_DEVIATIONS) ** 2
        kept, total = (KEPT, total) if total >= least else (KEPT_IF_UNLIKELY, least)
        gain_decode, gain_prompt = gain_decode / total, gain_prompt / total
        variances = (
            (of_decode - gain_decode * gain_decode * total) / kept,
            (of_prompt - gain_prompt * gain_prompt * total) / kept,
            (joint - gain_decode * gain_prompt * total) / kept,
        )
        return FactorEstimate(
            min(max(self.decode + gain_decode * error, LEAST_FACTOR), MOST_FACTOR),
            min(max(self.prompt + gain_prompt * error, LEAST_FACTOR), MOST_FACTOR),
            _bounded(variances),
        )

    @property
    def deviations(self) -> tuple[float, float]:
        """Standard deviation of either factor."""
        return math.sqrt(self.variances[0]), math.sqrt(self.variances[1])


@dataclass(frozen=True, slots=True)
class CostMemory:
    """What the stage keeps between ticks.

    Attributes:
        time: Factors on the time of steps.
        energy: Factors on their energy.
        used: The factors that plans are made with.
    """

    time: FactorEstimate = field(default_factory=FactorEstimate)
    energy: FactorEstimate = field(default_factory=FactorEstimate)
    used: CostFactors = AS_MODELLED

    @property
    def deviations(self) -> CostFactors:
        """Standard deviation of each factor."""
        return CostFactors(*self.time.deviations, *self.energy.deviations)


def learn_costs(
    work: Sequence[ClockWork], memory: CostMemory, costs: StepCosts | None
) -> CostMemory:
    """Return the memory after a window.

    Args:
        work: The steps of the window, by clock.
        memory: What was kept at the last tick.
        costs: The costs as swept or modelled; None if unknown.
    """
    steps = sum(each.steps for each in work)
    if costs is None or steps < LEAST_STEPS:
        return memory
    terms = np.array(
        [
            (each.steps, each.prefill_steps, each.sequences, each.prompt_tokens,
             each.context_tokens)
            for each in work
        ]
    )  # fmt: skip
    times, energies = costs.terms_at([each.clock_mhz for each in work])
    busy_s, energy_j = sum(each.busy_s for each in work), sum(each.energy_j for each in work)
    time, energy = memory.time, memory.energy
    if busy_s > 0:
        time = time.after(*_by_phase(times, terms), busy_s)
    if energy_j > 0:
        energy = energy.after(*_by_phase(energies, terms), energy_j)
    return replace(memory, time=time, energy=energy, used=_settled(memory.used, time, energy))


def _by_phase(costs: Floats, terms: Floats) -> tuple[float, float]:
    """Return the modelled cost of decoding and of prompts."""
    each = (costs * terms).sum(axis=0)
    step, prefill, decode, prompt, context = each.tolist()
    return step + decode + context, prefill + prompt


def _settled(used: CostFactors, time: FactorEstimate, energy: FactorEstimate) -> CostFactors:
    """Return the used factors until the learned ones differ clearly, so that plans stay."""
    learned = CostFactors(time.decode, time.prompt, energy.decode, energy.prompt)
    pairs = (
        (used.decode_time, learned.decode_time),
        (used.prompt_time, learned.prompt_time),
        (used.decode_energy, learned.decode_energy),
        (used.prompt_energy, learned.prompt_energy),
    )
    moves = any(abs(new / old - 1) > LEAST_CHANGE for old, new in pairs)
    return learned if moves else used


def _bounded(variances: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return variances that are no larger than those before anything was measured."""
    most = PRIOR_DEVIATION**2
    decode, prompt, joint = variances
    decode, prompt = min(max(decode, 0.0), most), min(max(prompt, 0.0), most)
    largest = 0.99 * math.sqrt(decode * prompt)
    return decode, prompt, min(max(joint, -largest), largest)
