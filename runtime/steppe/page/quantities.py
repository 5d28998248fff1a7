"""The numbers of a run's summary that its page shows, and how two runs compare in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steppe.page.amounts import NONE, joules, joules_per_token, number, span

Json = Mapping[str, Any]
Text = Callable[[float | None], str]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a summary.

    Attributes:
        path: Its keys in `summary.json`, joined by dots.
        label: Its name for people.
        text: Returns it for people.
        is_energy: Whether it is a power or an energy, or is made from one.
    """

    path: str
    label: str
    text: Text
    is_energy: bool = False

    @property
    def id(self) -> str:
        """Its name in the page."""
        return self.path.replace(".", "-")

    def of(self, summary: Json) -> float | None:
        """Return its value in a summary; None if that has none."""
        found: Any = summary
        for key in self.path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, int | float) else None


@dataclass(frozen=True, slots=True)
class Group:
    """Quantities under one title."""

    key: str
    title: str
    quantities: tuple[Quantity, ...]


def _seconds(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return NONE
    return span(value) if value >= 120 else f"{value:.3g} s"


def _per_joule(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f} %"


_ENERGY = Group(
    "energy",
    "Energy",
    (
        Quantity("energy_j", "Energy", joules, is_energy=True),
        Quantity("energy_per_output_token", "Energy per token", joules_per_token, is_energy=True),
        Quantity("output_tokens_per_joule", "Tokens per joule", _per_joule, is_energy=True),
        Quantity("idle_energy_j", "Idle", joules, is_energy=True),
        Quantity("transition_energy_j", "Changes of state", joules, is_energy=True),
        Quantity("wasted_energy_j", "For requests that failed", joules, is_energy=True),
        Quantity("energy_error_j", "Error of the meter", joules, is_energy=True),
    ),
)
_BUDGET = Group(
    "budget",
    "Following the budget",
    (
        Quantity("tracking.relative_mae", "Mean distance", _percent, is_energy=True),
        Quantity("tracking.over_budget_j", "Energy over budget", joules, is_energy=True),
        Quantity("tracking.over_budget_s", "Time over budget", _seconds),
        Quantity(
            "tracking.unused_while_waiting_j", "Unused while work waited", joules, is_energy=True
        ),
        Quantity("tracking.settle_p95_s", "Settles within (95 %)", _seconds),
        Quantity("curtailed_j", "Curtailed", joules, is_energy=True),
        Quantity("stale_s", "Supply stale for", _seconds),
    ),
)
_WORK = Group(
    "work",
    "Work",
    (
        Quantity("duration_s", "Duration", _seconds),
        Quantity("output_tokens", "Output tokens", number),
        Quantity("prompt_tokens", "Prompt tokens", number),
        Quantity("requests.completed", "Requests completed", number),
        Quantity("requests.failed", "Failed", number),
        Quantity("requests.rejected", "Rejected", number),
        Quantity("requests.shed", "Shed", number),
        Quantity("requests.cancelled", "Cancelled by clients", number),
    ),
)
_SERVICE = Group(
    "service",
    "Service",
    (
        Quantity("slo_attainment", "SLO attainment", _percent),
        Quantity("request_goodput", "Goodput, requests/s", _per_joule),
        Quantity("latency.ttft_s.p50", "First token, median", _seconds),
        Quantity("latency.ttft_s.p95", "First token, 95 %", _seconds),
        Quantity("latency.tpot_s.p50", "Per token, median", _seconds),
        Quantity("latency.tpot_s.p95", "Per token, 95 %", _seconds),
        Quantity("latency.e2e_s.p95", "Whole answer, 95 %", _seconds),
    ),
)
GROUPS = (_ENERGY, _BUDGET, _WORK, _SERVICE)


@dataclass(frozen=True, slots=True)
class Shown:
    """A quantity of one run, or of two.

    Attributes:
        quantity: The quantity.
        values: Its value in each run.
        difference: How much more the second run has, in words; empty for one run.
    """

    quantity: Quantity
    values: tuple[float | None, ...]
    difference: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """Its value in each run for people."""
        return tuple(self.quantity.text(value) for value in self.values)


def shown_groups(summaries: Sequence[Json]) -> list[tuple[Group, list[Shown]]]:
    """Return the groups with the values of one run or of two."""
    return [(group, [_shown(each, summaries) for each in group.quantities]) for group in GROUPS]


def _shown(quantity: Quantity, summaries: Sequence[Json]) -> Shown:
    values = tuple(quantity.of(summary) for summary in summaries)
    return Shown(quantity, values, _difference(quantity, *values) if len(values) == 2 else "")


def _difference(quantity: Quantity, first: float | None, second: float | None) -> str:
    if first is None or second is None:
        return NONE
    if first == second:
        return "none"
    if quantity.text is _percent:
        return f"{100 * (second - first):+.1f} points"
    if first == 0:
        return NONE
    return f"{100 * (second / first - 1):+.1f} %"
