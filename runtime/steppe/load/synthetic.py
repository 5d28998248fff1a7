"""A synthetic load: a traffic at any rate, which may change to another traffic in the run.

The default is the conversation trace of "Splitwise" (Patel et al., ISCA 2024): Azure LLM
inference 2023, 19,366 requests in 58 min (Azure/AzurePublicDataset, CC-BY 4.0).
`bench/fit_azure_load.py` derives its constants and prints how well they fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from steppe.load.arrivals import UNLIMITED, Arrival, LengthLimits, refuse_too_many
from steppe.load.rates import REAL_DAY, STEADY, DailyEnvelope, DayClock, Floats
from steppe.load.traffic_shape import TrafficShape
from steppe.load.traffics import CONVERSATION

_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class TrafficChange:
    """Another traffic from some time on.

    Attributes:
        at_s: When it begins, s since the load began.
        traffic: What users ask for from then on.
        rate_rps: Mean arrival rate from then on, requests/s; that of the load if None.
    """

    at_s: float
    traffic: TrafficShape
    rate_rps: float | None = None


@dataclass(frozen=True, slots=True)
class SyntheticLoad:
    """Arrivals of a traffic, at any rate and length scale.

    Attributes:
        traffic: What users ask for.
        envelope: Daily rise and fall of the rate; none by default. The Azure trace covers one
            hour, so the depth is the user's choice and not part of a fit.
        day: The hour of the day, by which the shares of a traffic move.
        changes: Other traffics later in the run, in the order of their times.
    """

    traffic: TrafficShape = CONVERSATION
    envelope: DailyEnvelope = STEADY
    day: DayClock = REAL_DAY
    changes: tuple[TrafficChange, ...] = ()

    def generate(
        self,
        rng: np.random.Generator,
        *,
        rate_rps: float,
        duration_s: float,
        length_scale: float = 1.0,
        limits: LengthLimits = UNLIMITED,
    ) -> tuple[Arrival, ...]:
        """Draw the arrivals of one run.

        Without changes the mean of the varying rate is exactly `rate_rps`; the number of requests
        is random. With changes each traffic is drawn for the whole run, and its arrivals from its
        own change to the next are taken.

        Args:
            rng: Random number generator; the same state gives the same arrivals.
            rate_rps: Mean arrival rate, requests/s.
            duration_s: Length of the run, s; every arrival is due before it.
            length_scale: Factor on prompt and output lengths.
            limits: What the scaled lengths are clipped to.

        Raises:
            ValueError: A rate, duration or scale is not positive.
            UsageError: There would be more arrivals than memory holds.
        """
        phases = (TrafficChange(0.0, self.traffic, rate_rps), *self.changes)
        end = TrafficChange(duration_s, self.traffic)
        arrivals: list[Arrival] = []
        for phase, following in pairwise((*phases, end)):
            phase_rps = rate_rps if phase.rate_rps is None else phase.rate_rps
            times_s = self._times(rng, phase.traffic, phase_rps, duration_s)
            # A change after the end leaves nothing, and the one before it ends with the run.
            times_s = times_s[(times_s >= phase.at_s) & (times_s < following.at_s)]
            arrivals += phase.traffic.requests(rng, times_s, self.day, length_scale, limits)
        return tuple(arrivals)

    def _times(
        self, rng: np.random.Generator, traffic: TrafficShape, rate_rps: float, duration_s: float
    ) -> Floats:
        """Return arrival times: unit-mean gaps, warped by the integral of the rate."""
        if not rate_rps > 0 or not duration_s > 0:
            raise ValueError(
                f"asked for a rate and a duration above 0, found {rate_rps:g}/s, {duration_s:g} s"
            )
        refuse_too_many(rate_rps, duration_s)
        steps = max(2, math.ceil(duration_s / _STEP_S) + 1)
        grid_s = np.linspace(0.0, duration_s, steps)
        bursts = traffic.burstiness.rate_path(rng, steps, float(grid_s[1]))
        rate = bursts * self.envelope.at(grid_s) * traffic.rate_over_base(grid_s, duration_s)
        expected = np.concatenate(([0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)))
        expected *= rate_rps * duration_s / expected[-1]
        marks = _marks(rng, traffic.burstiness.gap_shape, float(expected[-1]))
        return np.interp(marks, expected, grid_s)


def _marks(rng: np.random.Generator, shape: float, until: float) -> Floats:
    """Return a gamma renewal process of unit rate up to `until`."""
    marks = np.zeros(1)
    while marks[-1] < until:
        more = 64 + int(until - marks[-1])
        gaps = rng.gamma(shape, 1 / shape, size=more)
        marks = np.concatenate((marks, marks[-1] + np.cumsum(gaps)))
    return marks[1 : np.searchsorted(marks, until)]
