"""What a site expects: its own wind and sun, and the requests of its clients."""

from __future__ import annotations

import math
from dataclasses import dataclass

from steppe.power.budget import PowerBudget
from steppe.sim.sites.settings import TenantTerms, TraceDay
from steppe.sites.outlook import Outlook
from steppe.sites.view import Expected

STEPS = 16
WIND_MEMORY_S = 8 * 3600.0
"""Time in which what is known of the wind falls to 1/e, s of the day; assumed."""
RATE_MEMORY_S = 60.0
"""Time over which arrivals count for the rate that is expected, s."""


class OwnForecast:
    """The power of wind and sun in the next quarters of an hour.

    The sun is that of the supply, whose clouds are thus known. The wind is not: what it gives now
    fades towards its mean so far. How far it is off comes from earlier forecasts, as in a live run.
    """

    def __init__(self, budget: PowerBudget, day: TraceDay, step_s: float) -> None:
        """Begin without a mean.

        Args:
            budget: The budget with the supplies.
            day: Run time to the time of the day.
            step_s: Length of a step, s of the day.
        """
        self._budget, self._day, self._step_s = budget, day, step_s
        self._sum_w, self._count = 0.0, 0
        self._outlook = Outlook(step_s)

    def at(self, now_s: float) -> tuple[Expected, ...]:
        """Return the forecast at a time of the run, s; its steps begin at times of the day."""
        series = self._series(now_s)
        trace_s = self._day.trace_s(now_s)
        self._outlook.note(trace_s, series)
        return self._outlook.expected(trace_s, series)

    def _series(self, now_s: float) -> list[float]:
        wind_w, sun_w = own_w(self._budget, now_s)
        self._sum_w, self._count = self._sum_w + wind_w, self._count + 1
        mean_w, found = self._sum_w / self._count, [wind_w + sun_w]
        for step in range(1, STEPS):
            ahead_s = step * self._step_s
            _, sun_w = own_w(self._budget, now_s + ahead_s / self._day.speedup)
            known = math.exp(-ahead_s / WIND_MEMORY_S)
            found.append(sun_w + mean_w + (wind_w - mean_w) * known)
        return found


def own_w(budget: PowerBudget, now_s: float) -> tuple[float, float]:
    """Return what wind and sun give at a time, W; other supplies that are not bought are wind."""
    wind_w = sun_w = 0.0
    for source, watts in budget.own(now_s):
        if source == "sun":
            sun_w += watts
        else:
            wind_w += watts
    return wind_w, sun_w


@dataclass(frozen=True, slots=True)
class FlowKind:
    """What all requests of a flow have in common.

    Attributes:
        priority: Their class.
        terms: Where they may go.
    """

    priority: str
    terms: TenantTerms


class ArrivalRates:
    """The output tokens per second that clients ask for, by kind of request."""

    def __init__(self) -> None:
        """Begin without requests."""
        self._come: dict[FlowKind, float] = {}
        self._means: dict[FlowKind, float] = {}
        self._passed_s = 0.0

    def add(self, kind: FlowKind, tokens: float) -> None:
        """Note a request of so many output tokens."""
        self._come[kind] = self._come.get(kind, 0.0) + tokens

    def advance(self, passed_s: float) -> None:
        """Let time pass, s."""
        self._passed_s += passed_s
        keep = math.exp(-passed_s / RATE_MEMORY_S)
        for kind in self._come:
            before = self._means.get(kind, 0.0)
            self._means[kind] = keep * before + (1.0 - keep) * self._come[kind] / passed_s
            self._come[kind] = 0.0

    def tps(self) -> dict[FlowKind, float]:
        """Return the rates, output tokens per second."""
        seen = 1.0 - math.exp(-self._passed_s / RATE_MEMORY_S)
        return {kind: mean / seen for kind, mean in self._means.items()} if seen else {}
