"""Arrivals of requests: when, with how many prompt and output tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from steppe.errors import TraceError, UsageError

MOST_ARRIVALS = 50_000_000
"""Most arrivals, and seconds of a varying rate, that are drawn: about 8 GB of memory."""
DEFAULT_TENANT = "default"
"""The tenant of a request that names none."""
HASH_BLOCK_TOKENS = 512
"""Tokens of a block in the Mooncake traces."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request that a client will send.

    Attributes:
        at_s: When it is due, s after the load begins.
        prompt_tokens: Prompt length, tokens.
        output_tokens: Requested output length, tokens.
        rank: Index of its class in `control.admission.PRIORITIES`, for simulations; standard by
            default.
        cached_tokens: The part of the prompt that a prefix cache holds, tokens; below the prompt
            length, because an engine computes the last token of every prompt.
        tenant: The tenant that sends it.
        model: The model, or the alias, that it asks for; empty if there is only one model.
        required: Whether it requires the first model of the alias.
        hash_ids: Chained hashes of the blocks of its prompt, the last one maybe in part: equal ones
            are equal prefixes. Empty if unknown; `cached_tokens` counts only then.
        block_tokens: Tokens of a block.
        conversation: Number of its conversation, from 1; 0 without one.
    """

    at_s: float
    prompt_tokens: int
    output_tokens: int
    rank: int = 1
    cached_tokens: int = 0
    tenant: str = DEFAULT_TENANT
    model: str = ""
    required: bool = False
    hash_ids: tuple[int, ...] = ()
    block_tokens: int = HASH_BLOCK_TOKENS
    conversation: int = 0


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """Longest prompt and output to send to the model.

    Attributes:
        prompt_tokens: Most prompt tokens.
        output_tokens: Most output tokens.
    """

    prompt_tokens: int = 1_000_000
    output_tokens: int = 1_000_000

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise ValueError(f"asked for limits of at least one token, found {self}")

    def clip(self, arrival: Arrival) -> Arrival:
        """Return the arrival with its lengths brought within 1 and the limits."""
        prompt_tokens = min(max(1, arrival.prompt_tokens), self.prompt_tokens)
        return replace(
            arrival,
            prompt_tokens=prompt_tokens,
            output_tokens=min(max(1, arrival.output_tokens), self.output_tokens),
            cached_tokens=min(arrival.cached_tokens, prompt_tokens - 1),
            hash_ids=arrival.hash_ids[: -(-prompt_tokens // arrival.block_tokens)],
        )


UNLIMITED = LengthLimits()
"""Limits that no request of a known trace reaches."""


def scale_lengths(
    arrivals: Sequence[Arrival], factor: float, limits: LengthLimits
) -> tuple[Arrival, ...]:
    """Multiply prompt and output lengths by a factor, then clip them to the limits.

    Raises:
        ValueError: The factor is not positive.
    """
    _require_positive("a length factor", factor)
    return tuple(
        limits.clip(
            replace(
                arrival,
                prompt_tokens=round(min(arrival.prompt_tokens * factor, limits.prompt_tokens)),
                output_tokens=round(min(arrival.output_tokens * factor, limits.output_tokens)),
                cached_tokens=int(min(arrival.cached_tokens * factor, limits.prompt_tokens)),
                block_tokens=_scaled_block(arrival, factor),
            )
        )
        for arrival in arrivals
    )


def _scaled_block(arrival: Arrival, factor: float) -> int:
    tokens = arrival.block_tokens
    return max(1, round(tokens * factor)) if arrival.hash_ids else tokens


def stretch(arrivals: Sequence[Arrival], factor: float) -> tuple[Arrival, ...]:
    """Multiply every arrival time by a factor; 0.5 plays the trace at twice its speed.

    Raises:
        ValueError: The factor is not positive.
    """
    _require_positive("a time factor", factor)
    return tuple(replace(arrival, at_s=arrival.at_s * factor) for arrival in arrivals)


def at_rate(arrivals: Sequence[Arrival], rate_rps: float, trace: Path) -> tuple[Arrival, ...]:
    """Stretch a trace in time so that its mean rate becomes `rate_rps`, requests/s.

    The mean rate is taken between the first and the last arrival; fewer than two arrivals have no
    rate and stay as they are.

    Args:
        arrivals: The arrivals of the trace.
        rate_rps: The rate, requests/s.
        trace: The file they were read from, for the error message.

    Raises:
        TraceError: Several arrivals have the same time, and no other.
        ValueError: The rate is not positive.
    """
    _require_positive("a rate", rate_rps)
    if len(arrivals) < 2:
        return tuple(arrivals)
    span_s = arrivals[-1].at_s - arrivals[0].at_s
    if span_s <= 0:
        raise TraceError(
            f"{trace}: asked for {rate_rps:g} requests/s, "
            f"found {len(arrivals)} requests at one moment"
        )
    return stretch(arrivals, (len(arrivals) - 1) / span_s / rate_rps)


def until(arrivals: Sequence[Arrival], duration_s: float) -> tuple[Arrival, ...]:
    """Return the arrivals that are due before `duration_s`."""
    return tuple(arrival for arrival in arrivals if arrival.at_s < duration_s)


def mean_output_tokens(arrivals: Sequence[Arrival]) -> float:
    """Return the mean of the requested output tokens.

    Raises:
        TraceError: There are no arrivals.
    """
    if not arrivals:
        raise TraceError("asked for a mean output length, found no arrivals")
    return sum(arrival.output_tokens for arrival in arrivals) / len(arrivals)


def offered_rate(capacity_tps: float, utilisation: float, mean_output_tokens: float) -> float:
    """Return the request rate that offers a share of a fleet's capacity, requests/s.

    Args:
        capacity_tps: Output tokens/s of the fleet at full power.
        utilisation: Share of it to offer; above 1 the queue grows without end.
        mean_output_tokens: Mean output tokens of a request.

    Raises:
        ValueError: One of them is not positive.
    """
    _require_positive("a capacity", capacity_tps)
    _require_positive("a utilisation", utilisation)
    _require_positive("a mean output length", mean_output_tokens)
    return capacity_tps * utilisation / mean_output_tokens


def poisson(each: Arrival, rate_rps: float, duration_s: float, seed: int) -> tuple[Arrival, ...]:
    """Return copies of one arrival at the times of a Poisson process.

    Args:
        each: The arrival whose lengths all copies have.
        rate_rps: Mean arrival rate, requests/s.
        duration_s: All are due before it, s.
        seed: Seed of the times.

    Raises:
        ValueError: Rate or duration is not positive.
        UsageError: There would be more arrivals than memory holds.
    """
    _require_positive("a rate", rate_rps)
    _require_positive("a duration", duration_s)
    refuse_too_many(rate_rps, duration_s)
    rng = np.random.default_rng(seed)
    times_s = np.sort(rng.uniform(0.0, duration_s, size=rng.poisson(rate_rps * duration_s)))
    return tuple(replace(each, at_s=at_s) for at_s in times_s.tolist())


def refuse_too_many(rate_rps: float, duration_s: float) -> None:
    """Check that the arrivals of a rate over a duration fit in memory.

    Raises:
        UsageError: They do not.
    """
    if max(rate_rps, 1.0) * duration_s > MOST_ARRIVALS:
        raise UsageError(
            f"asked for {rate_rps:g} requests/s over {duration_s:g} s, "
            f"found room for {MOST_ARRIVALS:,} requests and as many seconds"
        )


def _require_positive(what: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"asked for {what} above 0, found {value:g}")
