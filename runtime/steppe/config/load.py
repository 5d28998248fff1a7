"""The load that Steppe puts on a fleet itself, and what a simulation adds to a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from steppe.config.section import Count, NonNegative, Positive, Section


class PrioritySection(Section):
    """How often a request is of each class, relative to the others (`steppe simulate`)."""

    interactive: NonNegative = 0.0
    standard: NonNegative = 1.0
    deferrable: NonNegative = 0.0

    @model_validator(mode="after")
    def _some(self) -> PrioritySection:
        if not self.interactive + self.standard + self.deferrable > 0:
            raise ValueError("asked for shares with a sum above 0")
        return self


class LoadSection(Section):
    """The load that `steppe demo` and `steppe simulate` put on the fleet."""

    trace: str = "synthetic"
    """`synthetic`, or the path of a trace in the Azure, BurstGPT or Mooncake format; gzipped where
    it ends with `.gz`."""
    length_scale: Positive = 1.0
    """Factor on the trace's prompt and output lengths."""
    utilisation: Positive = 0.8
    """Offered output tokens/s, share of what the fleet serves at full power."""
    rate_rps: Positive | None = None
    """Mean arrival rate instead, requests/s (`steppe simulate`)."""
    daily_depth: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Swing of the rate over a day, share of its mean (`steppe simulate`, synthetic only)."""
    daily_peak_hour: Annotated[float, Field(ge=0, lt=24)] = 14.0
    """Hour of the day at which the rate is highest."""
    priorities: PrioritySection = PrioritySection()
    seed: Annotated[int, Field(ge=0)] = 0


class FailureSection(Section):
    """A replica that dies in a simulation."""

    at_s: NonNegative
    """When, s since the run began."""
    replica: Count
    """Which, counted from 1."""


class SimSection(Section):
    """What only `steppe simulate` needs; every number here is an assumption until measured."""

    duration_s: Positive = 3600.0
    """Length of the run, s."""
    kv_tokens: Count | None = None
    """Tokens that the KV cache of one replica holds; when absent what fits `engine.kv_cache_bytes`
    or else the memory of modelled GPUs, and on emulated ones without end."""
    clock_latency_s: NonNegative = 0.05
    """From setting a clock limit to the new clock, s."""
    start_s: NonNegative = 60.0
    """From nothing to a replica that serves, s."""
    wake_s: NonNegative = 0.0
    """From frozen to the next step, s; a frozen engine that kept its weights needs next to none."""
    sleep_s: NonNegative = 0.0
    """From the last step to asleep, s."""
    transition_w: NonNegative | None = None
    """Draw of a replica in any of the three, W; that of an idle one at full clock when absent."""
    failures: Annotated[tuple[FailureSection, ...], Field(strict=False)] = ()
