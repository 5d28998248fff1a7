"""The load that Steppe generates itself, and what a simulation adds to a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steppe.config.section import Count, NonNegative, Positive, Section, Share

TrafficName = Literal[
    "conversation",
    "code_completion",
    "retrieval",
    "reasoning",
    "summaries",
    "agents",
    "embeddings",
    "moving_mix",
    "chats",
    "flash_crowd",
    "flooding_tenant",
    "half_and_half",
]


class PrioritySection(Section):
    """Relative frequency of each priority class (`steppe simulate`)."""

    interactive: NonNegative = 0.0
    """Weight of class `interactive`."""
    standard: NonNegative = 1.0
    """Weight of class `standard`."""
    deferrable: NonNegative = 0.0
    """Weight of class `deferrable`, which may wait for cheap power."""

    @model_validator(mode="after")
    def _sum_above_zero(self) -> PrioritySection:
        if not self.interactive + self.standard + self.deferrable > 0:
            raise ValueError("asked for shares with a sum above 0")
        return self


class TrafficChangeSection(Section):
    """Another traffic from some time of the run on."""

    at_s: Positive
    """When it begins, s since the load began."""
    traffic: TrafficName
    """What users ask for from then on."""
    rate_rps: Positive | None = None
    """Mean arrival rate from then on, requests/s. If absent: `load.rate_rps`, or else what
    `load.utilisation` gives for this traffic."""


class BatchJobSection(Section):
    """A batch job of a simulation: rows that may wait (`steppe simulate`)."""

    at_s: NonNegative = 0.0
    """When it comes, s since the start of the run."""
    rows: Count
    """Number of rows."""
    prompt_tokens: Positive = 500.0
    """Mean prompt length of a row, tokens."""
    output_tokens: Positive = 200.0
    """Mean output length of a row, tokens."""
    deadline_s: Positive | None = None
    """Time after which it is due, s since it came; none if absent."""
    when: Literal["now", "deadline", "surplus"] = "surplus"
    """`now`: at once, on all power that is left. `deadline`: at a steady pace that keeps the
    deadline, faster on surplus. `surplus`: on surplus, and on other power only as far as the
    deadline needs it."""


class LoadSection(Section):
    """The load of `steppe demo` and `steppe simulate`; `steppe serve` generates none."""

    trace: str = "synthetic"
    """`synthetic`, or the path of a trace in the Azure, BurstGPT or Mooncake format, gzipped if it
    ends with `.gz`; relative to this file."""
    traffic: TrafficName = "conversation"
    """What users ask for, if `trace` is `synthetic`: prompt and output lengths, burstiness, prefix
    hits and tenants; see `docs/reference/traffics.md`."""
    traffic_changes: Annotated[tuple[TrafficChangeSection, ...], Field(strict=False)] = ()
    """Other traffics later in the run, in the order of their times."""
    length_scale: Positive = 1.0
    """Factor on the prompt and output lengths of the trace."""
    utilisation: NonNegative = 0.8
    """Offered output tokens/s as a share of the fleet's output at full power, at the lengths of its
    operating points: if the traffic has others, give `rate_rps`. With several models, a share of
    what the replicas of each of them give. 0: no request."""
    rate_rps: Positive | None = None
    """Mean arrival rate, requests/s; replaces `utilisation`."""
    daily_depth: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Daily swing of the arrival rate, share of its mean (`steppe simulate`, synthetic only)."""
    daily_peak_hour: Annotated[float, Field(ge=0, lt=24)] = 14.0
    """Hour of the day with the highest arrival rate, h."""
    alias: str | None = None
    """The alias that the requests ask for, instead of a model (`steppe simulate`)."""
    required_share: Share = 0.0
    """Share of the requests for an alias that require its first model (`steppe simulate`)."""
    priorities: PrioritySection = PrioritySection()
    """Mix of priority classes (`steppe simulate`)."""
    jobs: Annotated[tuple[BatchJobSection, ...], Field(strict=False)] = ()
    """Batch jobs beside the requests (`steppe simulate`)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the random numbers."""

    @model_validator(mode="after")
    def _traffic_of_synthetic_load(self) -> LoadSection:
        if self.trace != "synthetic" and (self.traffic != "conversation" or self.traffic_changes):
            raise ValueError("asked for a traffic with trace: synthetic, found a trace file")
        return self

    @model_validator(mode="after")
    def _changes_in_order(self) -> LoadSection:
        times_s = [change.at_s for change in self.traffic_changes]
        if times_s != sorted(set(times_s)):
            raise ValueError(f"traffic_changes: asked for rising times, found {times_s}")
        return self

    @property
    def is_empty(self) -> bool:
        """Whether it has no request."""
        return self.rate_rps is None and not self.utilisation


class FailureSection(Section):
    """One replica failure in a simulation."""

    at_s: NonNegative
    """Time of the failure, s since the start of the run."""
    replica: Count
    """Number of the replica, counted from 1."""


class SimSection(Section):
    """Settings of `steppe simulate` only; every number is an assumption until measured."""

    duration_s: Positive = 3600.0
    """Length of the run, s."""
    kv_tokens: Count | None = None
    """KV-cache capacity of one replica, tokens. If absent: what fits `engine.kv_cache_bytes`, or
    else the memory of modelled GPUs; unlimited on emulated GPUs."""
    kv_load_bytes_per_s: Positive = 25e9
    """Speed at which keys and values come back from host memory (`engine.kv_host_bytes`), bytes/s
    for each GPU: about 0.8 of what PCIe 4.0 x16 carries; 5.0 carries twice as much."""
    clock_latency_s: NonNegative = 0.05
    """Time from setting a clock limit until the clock changes, s."""
    start_s: NonNegative = 60.0
    """Time to start a replica from nothing, s."""
    wake_s: NonNegative = 0.0
    """Time from asleep to the next step, s; about 0 if the engine keeps its weights on the GPU."""
    sleep_s: NonNegative = 0.0
    """Time from the last step to asleep, s."""
    transition_w: NonNegative | None = None
    """Draw of a replica while it starts, wakes or goes to sleep, W. If absent: the draw of an idle
    replica at the highest clock."""
    failures: Annotated[tuple[FailureSection, ...], Field(strict=False)] = ()
    """Replica failures to simulate."""
