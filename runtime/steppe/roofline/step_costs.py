"""What a step of an engine costs, in a closed form that a file can hold.

    time, energy = step + prefill (if it computes prompts) + decode D + prompt P + context C

with D decoding sequences, P prompt tokens and C tokens of context in the step. The coefficients
differ by SM clock and are interpolated between the clocks of the fit. The form is that of the
energy roofline (`step_law`) without its overlap: weights are streamed once a step, each token is
computed, keys and values are streamed for every token of context. `step_cost_fit` finds the
coefficients, and with them the error of the form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StepTerms:
    """The terms of a step's time, s, or of its energy, J.

    Attributes:
        step: Of every step: streaming the weights.
        prefill: Of a step that computes prompts.
        decode: Of each decoding sequence.
        prompt: Of each prompt token.
        context: Of each token of context.
    """

    step: float
    prefill: float
    decode: float
    prompt: float
    context: float

    @property
    def row(self) -> tuple[float, ...]:
        """The terms in their order; `astuple` would copy each of them."""
        return self.step, self.prefill, self.decode, self.prompt, self.context


@dataclass(frozen=True, slots=True)
class ClockCosts:
    """The costs of a step at one SM clock.

    Attributes:
        clock_mhz: SM clock limit, MHz; 0 if measured without one.
        time: Terms of its time, s.
        energy: Terms of the energy of the replica's GPUs, J.
    """

    clock_mhz: int
    time: StepTerms
    energy: StepTerms


@dataclass(frozen=True, slots=True)
class CostFactors:
    """Measured over modelled cost, by phase.

    Attributes:
        decode_time: On the time of decoding, and of a step as such.
        prompt_time: On the time of computing prompts.
        decode_energy: On the energy of decoding, and of a step as such.
        prompt_energy: On the energy of computing prompts.
    """

    decode_time: float = 1.0
    prompt_time: float = 1.0
    decode_energy: float = 1.0
    prompt_energy: float = 1.0


AS_MODELLED = CostFactors()


@dataclass(frozen=True)
class StepCosts:
    """The costs of a step of one replica.

    Attributes:
        clocks: Costs by rising SM clock.
        tokens_per_step: Most tokens that the engine computes in a step.
        kv_tokens: Tokens that its KV cache holds; None if unknown.
        time_error: Median relative error of the fitted times.
        energy_error: Median relative error of the fitted energies.
    """

    clocks: tuple[ClockCosts, ...]
    tokens_per_step: int
    kv_tokens: int | None = None
    time_error: float = 0.0
    energy_error: float = 0.0

    def __hash__(self) -> int:
        """Return a hash that is computed once: frontiers are cached by their costs."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.clocks, self.tokens_per_step, self.kv_tokens))

    @property
    def clocks_mhz(self) -> tuple[int, ...]:
        """The SM clocks, rising, MHz."""
        return tuple(costs.clock_mhz for costs in self.clocks)

    def at(self, clocks_mhz: Sequence[int]) -> StepCosts:
        """Return the costs at other clocks, MHz, interpolated; not beyond those of the fit."""
        times, energies = self.terms_at(clocks_mhz)
        clocks = tuple(
            ClockCosts(clock_mhz, StepTerms(*time), StepTerms(*energy))
            for clock_mhz, time, energy in zip(
                clocks_mhz, times.tolist(), energies.tolist(), strict=True
            )
        )
        return replace(self, clocks=clocks)

    def unlimited_at(self, highest_mhz: int) -> StepCosts:
        """Return the costs with this clock, MHz, in place of none."""
        clocks = tuple(replace(c, clock_mhz=c.clock_mhz or highest_mhz) for c in self.clocks)
        return replace(self, clocks=clocks)

    def terms_at(self, clocks_mhz: Sequence[int]) -> tuple[Floats, Floats]:
        """Return the terms of time, s, and energy, J, interpolated to clocks, a row for each."""
        known = self._known_mhz
        highest = len(known) - 1
        places = np.searchsorted(known, clocks_mhz, side="right") - 1
        low = np.clip(places, 0, max(0, highest - 1))
        high = np.minimum(low + 1, highest)
        width = np.maximum(known[high] - known[low], 1.0)
        part = np.clip((np.asarray(clocks_mhz) - known[low]) / width, 0.0, 1.0)[:, None]
        times, energies = self.time_terms, self.energy_terms
        return (
            times[low] + part * (times[high] - times[low]),
            energies[low] + part * (energies[high] - energies[low]),
        )

    @cached_property
    def _known_mhz(self) -> Floats:
        return np.array(self.clocks_mhz, dtype=float)

    def scaled(self, factors: CostFactors) -> StepCosts:
        """Return the costs with times and energies multiplied, by phase."""
        if factors == AS_MODELLED:
            return self
        time = factors.decode_time, factors.prompt_time
        energy = factors.decode_energy, factors.prompt_energy
        clocks = tuple(
            replace(costs, time=_scaled(costs.time, *time), energy=_scaled(costs.energy, *energy))
            for costs in self.clocks
        )
        return replace(self, clocks=clocks)

    def time_s(self, work: Floats) -> Floats:
        """Return the time of steps at each clock, s, shape (clocks, steps).

        Args:
            work: A row for each term of `StepTerms`, shape (5, steps): ones, whether the step
                computes prompts (or how often), sequences, prompt tokens, tokens of context.
        """
        times: Floats = self.time_terms @ work
        return times

    def energy_j(self, work: Floats) -> Floats:
        """Return the energy of steps at each clock, J, shape (clocks, steps); see `time_s`."""
        energies: Floats = self.energy_terms @ work
        return energies

    @cached_property
    def time_terms(self) -> Floats:
        """Terms of the time of a step, s, a row for each clock."""
        return np.array([costs.time.row for costs in self.clocks])

    @cached_property
    def energy_terms(self) -> Floats:
        """Terms of the energy of a step, J, a row for each clock."""
        return np.array([costs.energy.row for costs in self.clocks])


def _scaled(terms: StepTerms, decode: float, prompt: float) -> StepTerms:
    return StepTerms(
        step=terms.step * decode,
        prefill=terms.prefill * prompt,
        decode=terms.decode * decode,
        prompt=terms.prompt * prompt,
        context=terms.context * decode,
    )
