"""What the supplies and the limits of a site say at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from steppe.power.outside_limit import OutsideLimit
from steppe.power.settled import Offer
from steppe.power.signal import Fresh, Missing, Reading, Stale
from steppe.power.site_terms import SiteTerms
from steppe.power.source_state import SourceState, source_state
from steppe.power.supply import (
    Custom,
    Supply,
    TraceClock,
    can_fail,
    ends_s,
    is_firm,
    most_w,
    offered,
    source_of,
    total,
)

FALLBACK = "fallback"
"""`Budget.source` while a supply or limit is stale or missing."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The supplies of a site, and what limits it.

    Attributes:
        supplies: What offers power.
        limits: What limits the site budget, such as a grid connection.
        clock: Run time to trace time.
        terms: The power of the site beside its GPUs.
        outside: A limit from outside; None without one.
    """

    supplies: tuple[Supply, ...]
    limits: tuple[Supply, ...]
    clock: TraceClock
    terms: SiteTerms
    outside: OutsideLimit | None = None

    def followed_by(self, other: Sources) -> Sources:
        """Return other sources with what the nodes draw here, and with the limit from outside."""
        terms = replace(other.terms, node_rest_w=self.terms.node_rest_w)
        return replace(other, terms=terms, outside=self.outside)

    @property
    def ends_s(self) -> float:
        """Run time at which the first trace ends, s; infinite without a trace."""
        return min(ends_s(source, self.clock) for source in self.supplies + self.limits)

    @property
    def has_surplus(self) -> bool:
        """Whether a supply is anything else than bought power."""
        return not all(is_firm(supply) for supply in self.supplies)

    def most_gpu_w(self, battery_w: float) -> float:
        """Return the most that the GPUs may ever draw, W; infinite with a signal without a cap.

        Args:
            battery_w: The most that a battery adds, W.
        """
        terms = self.terms
        site_w = terms.left_w(sum(most_w(each, terms.site_w) for each in self.supplies))
        site_w += battery_w
        if any(can_fail(supply) for supply in self.supplies):
            site_w = max(site_w, terms.fallback_w)
        for limit in self.limits:
            fallback_w = terms.fallback_w if can_fail(limit) else 0.0
            site_w = min(site_w, max(most_w(limit, terms.site_w), fallback_w))
        return terms.gpu_w(site_w)

    def keep(self, at_s: float) -> None:
        """Let each signal of its own class keep its value of a time."""
        for each in self.supplies + self.limits:
            if isinstance(each, Custom):
                each.signal.keep(self.clock.since_start_s(at_s))

    def readings(self, at_s: float) -> list[Reading]:
        """Return what each supply offers at a time."""
        return [self._reading(supply, at_s) for supply in self.supplies]

    def supply(self, at_s: float) -> Reading:
        """Return what all supplies offer at a time."""
        return total(self.readings(at_s))

    def firm(self, at_s: float) -> Reading:
        """Return what the bought supplies offer at a time."""
        return total(self._reading(each, at_s) for each in self.supplies if is_firm(each))

    def own(self, at_s: float) -> tuple[tuple[str, float], ...]:
        """Return what each supply that is not bought is, and its power at a time, W."""
        readings = [(s, self._reading(s, at_s)) for s in self.supplies if not is_firm(s)]
        return tuple(
            (source_of(supply), reading.watts if isinstance(reading, Fresh) else 0.0)
            for supply, reading in readings
        )

    def limits_at(self, at_s: float) -> Iterator[tuple[float, str]]:
        """Yield each limit of the site budget, W, and its name."""
        for limit in self.limits:
            yield self._limit(limit, at_s)
        outside = None if self.outside is None else self.outside.limit_at(at_s)
        if outside is not None:
            yield outside

    def limit_w(self, at_s: float) -> float:
        """Return the lowest limit of the site budget, W; infinite without one."""
        return min((watts for watts, _ in self.limits_at(at_s)), default=math.inf)

    def gpu_budget_w(self, supply: Reading, battery_w: float, at_s: float) -> float:
        """Return what the GPUs may draw at a time, W.

        Args:
            supply: What all supplies offer.
            battery_w: What a battery adds, W.
            at_s: The time, s.
        """
        match supply:
            case Fresh(watts=supply_w):
                site_w = self.terms.left_w(supply_w) + battery_w
            case Stale() | Missing():
                site_w = self.terms.fallback_w
        return self.terms.gpu_w(min(site_w, self.limit_w(at_s)))

    def surplus_w(self, at_s: float) -> float:
        """Return the part of the GPUs' power that is no bought power, W; no battery counts."""
        supply = self.supply(at_s)
        whole_w = self.gpu_budget_w(supply, 0.0, at_s)
        if not self.has_surplus:
            return whole_w
        match self.firm(at_s), supply:
            case Fresh(watts=firm_w), Fresh(watts=all_w):
                terms = self.terms
                beside_w = terms.gpu_w(terms.left_w(firm_w))
                return min(whole_w, terms.gpu_w(terms.left_w(all_w)) - beside_w)
            case _:
                return 0.0

    def named(self, readings: Sequence[Reading], battery_w: float) -> str:
        """Return the names of what offers power now; of all supplies if none does."""
        pairs = zip(self.supplies, readings, strict=True)
        names = [s.name for s, reading in pairs if isinstance(reading, Fresh) and reading.watts > 0]
        if battery_w > 0:
            names.append("battery")
        return "+".join(dict.fromkeys(names or [supply.name for supply in self.supplies]))

    def states(self, now_s: float) -> tuple[SourceState, ...]:
        """Return what each supply and limit says now."""
        supplies = [
            source_state("supply", each, self._reading(each, now_s)) for each in self.supplies
        ]
        limits = [source_state("limit", each, self._reading(each, now_s)) for each in self.limits]
        outside = None if self.outside is None else self.outside.limit_at(now_s)
        if outside is not None:
            limits.append(SourceState("limit", outside[1], "fresh", outside[0], 0.0))
        return (*supplies, *limits)

    def offers(self, start_s: float, end_s: float) -> list[Offer] | None:
        """Return what each supply offers between two times; None if one is stale or missing."""
        offers = []
        for supply in self.supplies:
            match self._reading(supply, start_s), self._reading(supply, end_s):
                case Fresh(watts=before_w), Fresh(watts=after_w):
                    mean_w = (before_w + after_w) / 2.0
                    offers.append(Offer(source_of(supply), is_firm(supply), mean_w))
                case _:
                    return None
        return offers

    def _reading(self, source: Supply, at_s: float) -> Reading:
        return offered(source, at_s, self.clock, self.terms.stale_s, self.terms.site_w)

    def _limit(self, limit: Supply, at_s: float) -> tuple[float, str]:
        """Return a limit of the site budget, W, and its name; the fallback if it is not fresh."""
        match self._reading(limit, at_s):
            case Fresh(watts=watts):
                return watts, limit.name
            case Stale() | Missing():
                return self.terms.fallback_w, FALLBACK
