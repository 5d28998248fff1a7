"""The shape of a traffic: its kinds of request, and how their shares and the rate vary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.load.arrivals import DEFAULT_TENANT, UNLIMITED, Arrival, LengthLimits
from steppe.load.lengths import LengthComponent, LengthMixture
from steppe.load.rates import DAY_H, REAL_DAY, Burstiness, DayClock, FlashCrowd, Floats
from steppe.load.sessions import Sessions
from steppe.roofline.lengths import RequestLengths

DRAWS = 20_000
"""Requests whose mean is taken as that of a traffic; its standard error is 0.3 to 1.4 %."""


@dataclass(frozen=True, slots=True)
class TrafficPart:
    """The requests of one kind in a traffic.

    Attributes:
        lengths: Prompt and output lengths.
        share: Mean share of the requests.
        tenant: The tenant that sends them.
        cached_share: Share of each prompt that the prefix cache holds.
        swing: By how much the share rises and falls over the day, share of its mean.
        peak_hour: Hour of the day at which the share is highest, h.
    """

    lengths: LengthMixture
    share: float = 1.0
    tenant: str = DEFAULT_TENANT
    cached_share: float = 0.0
    swing: float = 0.0
    peak_hour: float = 0.0

    def __post_init__(self) -> None:
        if not self.share > 0 or not 0 <= self.swing < 1 or not 0 <= self.cached_share < 1:
            raise ValueError(
                "asked for a share above 0, and a swing and a cached share in [0, 1), found "
                f"{self.share:g}, {self.swing:g} and {self.cached_share:g}"
            )

    def weights(self, hours: Floats) -> Floats:
        """Return its weight among the parts at these hours of the day."""
        phase = 2 * np.pi * (hours - self.peak_hour) / DAY_H
        return self.share * (1 + self.swing * np.cos(phase))


@dataclass(frozen=True, slots=True)
class TrafficShape:
    """What users ask for, apart from the mean rate.

    Attributes:
        description: The traffic in one line, with the source of its numbers.
        parts: The kinds of request.
        burstiness: Burstiness of the arrivals.
        crowd: A flash crowd; None without one.
        sessions: How requests form sessions with common beginnings; the lengths are those that a
            turn adds. None for requests that have nothing in common.
    """

    description: str
    parts: tuple[TrafficPart, ...]
    burstiness: Burstiness
    crowd: FlashCrowd | None = None
    sessions: Sessions | None = None

    def rate_over_base(self, times_s: Floats, duration_s: float) -> Floats:
        """Return the rate at these times of a run, over the rate without a crowd."""
        if self.crowd is None:
            return np.ones_like(times_s)
        return self.crowd.at(times_s, duration_s)

    def requests(
        self,
        rng: np.random.Generator,
        times_s: Floats,
        day: DayClock,
        length_scale: float,
        limits: LengthLimits,
    ) -> tuple[Arrival, ...]:
        """Draw a request for each arrival time, s.

        Args:
            rng: Random number generator.
            times_s: Rising times, s.
            day: The hour of the day at these times.
            length_scale: Factor on prompt and output lengths.
            limits: What the scaled lengths are clipped to.
        """
        part_of = self._part_of(rng, times_s, day)
        lengths = np.empty((len(times_s), 3), np.int64)
        for index, part in enumerate(self.parts):
            mine = part_of == index
            drawn = part.lengths.draw(rng, int(mine.sum()), length_scale, limits)
            lengths[mine, :2] = drawn
            # An engine computes the last token of a prompt, whatever its cache holds.
            held = np.floor(part.cached_share * drawn[:, 0]).astype(np.int64)
            lengths[mine, 2] = np.minimum(held, drawn[:, 0] - 1)
        tenants = [part.tenant for part in self.parts]
        arrivals = tuple(
            Arrival(at_s, prompt, output, cached_tokens=cached, tenant=tenants[index])
            for at_s, (prompt, output, cached), index in zip(
                times_s.tolist(), lengths.tolist(), part_of.tolist(), strict=True
            )
        )
        if self.sessions is None:
            return arrivals
        return self.sessions.scaled(length_scale).form(rng, arrivals, limits)

    def mean_request(
        self, length_scale: float = 1.0, limits: LengthLimits = UNLIMITED
    ) -> RequestLengths:
        """Return the mean request over a day, after scaling and clipping.

        A mean over `DRAWS` draws of a fixed seed.
        """
        times_s: Floats = np.linspace(0.0, REAL_DAY.day_s, DRAWS, endpoint=False, dtype=np.float64)
        drawn = self.requests(np.random.default_rng(0), times_s, REAL_DAY, length_scale, limits)
        lengths = np.array([(a.prompt_tokens, a.output_tokens, a.cached_tokens) for a in drawn])
        prompt, output, cached = lengths.mean(axis=0).tolist()
        return RequestLengths(prompt - cached, output, cached)

    def _part_of(
        self, rng: np.random.Generator, times_s: Floats, day: DayClock
    ) -> NDArray[np.int64]:
        """Draw the part of each request by the shares at its hour."""
        if len(self.parts) == 1:
            return np.zeros(len(times_s), np.int64)
        hours = day.hours_at(times_s)
        weights = np.array([part.weights(hours) for part in self.parts])
        edges = np.cumsum(weights, axis=0) / weights.sum(axis=0)
        parts: NDArray[np.int64] = (rng.random(len(times_s)) >= edges[:-1]).sum(axis=0)
        return parts


def lognormal(
    prompt_tokens: float,
    output_tokens: float,
    prompt_spread: float,
    output_spread: float,
    longest: LengthLimits = UNLIMITED,
) -> LengthMixture:
    """Return independent lognormal lengths with these means, tokens.

    Args:
        prompt_tokens: Mean prompt length before clipping, tokens.
        output_tokens: Mean output length before clipping, tokens.
        prompt_spread: Standard deviation of ln(prompt tokens).
        output_spread: Standard deviation of ln(output tokens).
        longest: Longest prompt and output before scaling, tokens.
    """
    # The mean of a lognormal is exp(log + spread^2 / 2).
    prompt_log = math.log(prompt_tokens) - prompt_spread**2 / 2
    output_log = math.log(output_tokens) - output_spread**2 / 2
    component = LengthComponent(1.0, prompt_log, output_log, prompt_spread, output_spread, 0.0)
    return LengthMixture((component,), longest)
