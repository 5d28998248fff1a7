"""The costs of a step and the mean request of a frontier, as its file has them."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field, field_validator

from steppe.config.section import NonNegative, Section
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.step_costs import ClockCosts, StepCosts, StepTerms

Whole = Annotated[int, Field(ge=1, le=1 << 60)]
"""Tokens; the largest number stands for an engine without a limit of its own."""


class TermsSection(Section):
    """The terms of a step's time, s, or energy, J."""

    step: NonNegative
    prefill: NonNegative
    decode: NonNegative
    prompt: NonNegative
    context: NonNegative


class ClockCostsSection(Section):
    """The costs of a step at one clock."""

    clock_mhz: Annotated[int, Field(ge=0, le=10_000_000)]
    time: TermsSection
    energy: TermsSection


class CostsSection(Section):
    """The costs of a step."""

    tokens_per_step: Whole
    kv_tokens: Whole | None = None
    time_error: NonNegative = 0.0
    energy_error: NonNegative = 0.0
    clocks: Annotated[tuple[ClockCostsSection, ...], Field(min_length=1, strict=False)]

    @field_validator("clocks")
    @classmethod
    def _rising(cls, clocks: tuple[ClockCostsSection, ...]) -> tuple[ClockCostsSection, ...]:
        for lower, higher in itertools.pairwise(clocks):
            if lower.clock_mhz >= higher.clock_mhz:
                raise ValueError(
                    f"asked for rising clocks, found {higher.clock_mhz} MHz after "
                    f"{lower.clock_mhz} MHz"
                )
        for costs in clocks:
            for terms in (costs.time, costs.energy):
                if not any(terms.model_dump().values()):
                    raise ValueError(
                        f"asked for a step that costs something, found 0 at {costs.clock_mhz} MHz"
                    )
        return clocks

    def value(self) -> StepCosts:
        """Return the costs."""
        clocks = tuple(
            ClockCosts(
                costs.clock_mhz,
                StepTerms(**costs.time.model_dump()),
                StepTerms(**costs.energy.model_dump()),
            )
            for costs in self.clocks
        )
        return StepCosts(
            clocks, self.tokens_per_step, self.kv_tokens, self.time_error, self.energy_error
        )


class LengthsSection(Section):
    """The mean request, tokens."""

    prompt_tokens: NonNegative
    output_tokens: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    cached_tokens: NonNegative = 0.0

    def value(self) -> RequestLengths:
        """Return the lengths."""
        return RequestLengths(self.prompt_tokens, self.output_tokens, self.cached_tokens)


def costs_values(costs: StepCosts | None, lengths: RequestLengths | None) -> dict[str, Any]:
    """Return the keys of a file for what is known of costs and lengths."""
    values: dict[str, Any] = {}
    if lengths is not None:
        values["lengths"] = asdict(lengths)
    if costs is not None:
        values["costs"] = asdict(costs)
        values["costs"]["clocks"] = list(values["costs"]["clocks"])
        if costs.kv_tokens is None:
            del values["costs"]["kv_tokens"]
    return values
