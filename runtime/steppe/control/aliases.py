"""Requests for an alias: which variant each one goes to, and what load they are."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from steppe.control.demand import RATE_S, DemandEstimator, Traffic
from steppe.control.state import AliasLoad
from steppe.control.variants import Shares, shares_at

MOST_CREDIT = 2.0
"""Most requests that a variant gets later because it had no room, or because others had none."""


@dataclass(slots=True)
class SharedOut:
    """Deals requests to variants so that each keeps its share.

    Each request adds its share to the credit of every variant, and goes to the one with most.

    Attributes:
        shares: The share of each variant.
        credits: What each has in store, requests.
    """

    shares: Shares
    credits: dict[str, float]

    @classmethod
    def of(cls, variants: tuple[str, ...]) -> SharedOut:
        """Begin with the first variant for all."""
        return cls(shares_at(0.0, variants), dict.fromkeys(variants, 0.0))

    def next(self, able: Iterable[str]) -> str:
        """Return the variant of the next request.

        Args:
            able: Variants that have room; if none has, any may have to wait.
        """
        for name, share in self.shares.items():
            self.credits[name] += share
        rooms = list(able)
        best = max(rooms or list(self.credits), key=lambda name: self.credits[name])
        self.credits[best] -= 1.0
        for name, credit in self.credits.items():
            self.credits[name] = min(MOST_CREDIT, max(-MOST_CREDIT, credit))
        return best


@dataclass(frozen=True, slots=True)
class AliasCounts:
    """Running totals of the requests for an alias.

    Attributes:
        arrived: Requests.
        required: Those of them that require the first variant.
        answered: Those of them that have ended with a token.
        output_tokens: Their output tokens.
        by_model: Requests that each variant was given; one that goes to another counts at both.
    """

    arrived: int = 0
    required: int = 0
    answered: int = 0
    output_tokens: int = 0
    by_model: Mapping[str, int] = field(default_factory=dict)


def sum_counts(counts: Sequence[AliasCounts]) -> AliasCounts:
    """Return the totals of an alias at several gateways together."""
    by_model: Counter[str] = Counter()
    for each in counts:
        by_model.update(each.by_model)
    return AliasCounts(
        sum(each.arrived for each in counts),
        sum(each.required for each in counts),
        sum(each.answered for each in counts),
        sum(each.output_tokens for each in counts),
        dict(by_model),
    )


@dataclass(frozen=True, slots=True)
class _Given:
    """What the models had been given at a time, in all and for each alias."""

    at_s: float
    models: Mapping[str, int]
    aliases: Mapping[str, AliasCounts]

    def of(self, alias: str, model: str) -> int:
        counts = self.aliases.get(alias)
        return 0 if counts is None else counts.by_model.get(model, 0)


class AliasLoads:
    """The loads of all aliases, from running totals."""

    def __init__(self) -> None:
        """Begin without requests."""
        self._demands: defaultdict[str, DemandEstimator] = defaultdict(DemandEstimator)
        self._earlier: deque[_Given] = deque()

    def update(
        self,
        now_s: float,
        aliases: Mapping[str, AliasCounts],
        given: Mapping[str, int],
        demand_tps: Mapping[str, float],
    ) -> dict[str, AliasLoad]:
        """Return the load of each alias at a tick.

        Args:
            now_s: The time, s.
            aliases: The totals of each alias.
            given: Requests that each model was given, those for aliases included.
            demand_tps: The demand of each model, output tokens/s.
        """
        now = _Given(now_s, dict(given), dict(aliases))
        if self._earlier and any(given[n] < self._earlier[-1].models.get(n, 0) for n in given):
            self._earlier.clear()  # the gateway restarted and counts from 0
        found = {
            name: self._load(now_s, name, counts, self._parts(now, name, demand_tps))
            for name, counts in aliases.items()
        }
        self._earlier.append(now)
        while len(self._earlier) > 1 and self._earlier[1].at_s <= now_s - RATE_S:
            self._earlier.popleft()
        return found

    def _load(
        self, now_s: float, alias: str, counts: AliasCounts, by_model: dict[str, float]
    ) -> AliasLoad:
        traffic = Traffic(now_s, counts.arrived, counts.answered, counts.output_tokens)
        tps = self._demands[alias].update(traffic).tps
        required = counts.required / counts.arrived if counts.arrived else 0.0
        return AliasLoad(tps, by_model, required * tps)

    def _parts(self, now: _Given, alias: str, demand_tps: Mapping[str, float]) -> dict[str, float]:
        """Return the part of the demand of each variant that asks for the alias."""
        before = self._earlier[0] if self._earlier else _Given(now.at_s, {}, {})
        found = {}
        for model in now.aliases[alias].by_model:
            whole = now.models.get(model, 0) - before.models.get(model, 0)
            lately = now.of(alias, model) - before.of(alias, model)
            share = lately / whole if whole else 0.0
            found[model] = demand_tps.get(model, 0.0) * share
        return found
