"""Which model a request for an alias goes to, in virtual time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from steppe.control.demand import RATE_S, Demand, Traffic
from steppe.control.state import AliasLoad, Observation
from steppe.control.variants import Shares, shares_at
from steppe.load.arrivals import Arrival
from steppe.sim.request import Request

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


class RecentCounts:
    """Counts of requests, in all and of the time over which arrivals are counted."""

    def __init__(self) -> None:
        """Begin without requests."""
        self._counts: Counter[tuple[str, str]] = Counter()
        self._earlier: deque[tuple[float, Counter[tuple[str, str]]]] = deque()

    def add(self, model: str, asked: str) -> None:
        """Count a request that a model is given; it asked for an alias, or else an empty name."""
        self._counts[model, asked] += 1

    def note(self, now_s: float) -> None:
        """Remember the counts of a tick, and forget those that are older than needed."""
        self._earlier.append((now_s, self._counts.copy()))
        while len(self._earlier) > 1 and self._earlier[1][0] <= now_s - RATE_S:
            self._earlier.popleft()

    def share(self, model: str, asked: str) -> float:
        """Return the share of an alias in the recent requests of a model."""
        before = self._earlier[0][1] if self._earlier else Counter[tuple[str, str]]()
        lately = {key: n - before[key] for key, n in self._counts.items() if key[0] == model}
        whole = sum(lately.values())
        return lately.get((model, asked), 0) / whole if whole else 0.0


class AliasTraffic:
    """The requests for one alias: how many come, and how long the answers are."""

    def __init__(self, variants: tuple[str, ...]) -> None:
        """Begin without requests."""
        self.variants, self.dealt = variants, SharedOut.of(variants)
        self._demand = Demand()
        self._arrived = self._required = self._answered = self._tokens = 0

    def arrive(self, *, required: bool) -> None:
        """Count a request."""
        self._arrived += 1
        self._required += required

    def end(self, request: Request) -> None:
        """Count a request that has ended."""
        if request.first_s is not None:
            self._answered += 1
            self._tokens += request.output_tokens

    def load(self, now_s: float, by_model: Mapping[str, float]) -> AliasLoad:
        """Return the load of the alias.

        Args:
            now_s: The time, s.
            by_model: Output tokens/s that the demand of each pool has of it.
        """
        traffic = Traffic(now_s, self._arrived, self._answered, self._tokens)
        tps = self._demand.update(traffic).tps
        required = self._required / self._arrived if self._arrived else 0.0
        return AliasLoad(tps, dict(by_model), required * tps)


class AliasRouter:
    """The requests for all aliases.

    Attributes:
        traffics: Each alias, by its name.
        counts: Where requests went.
    """

    def __init__(self, aliases: Mapping[str, tuple[str, ...]]) -> None:
        """Begin with the first variant for all requests.

        Args:
            aliases: The variants of each alias, best first.
        """
        self.traffics = {name: AliasTraffic(variants) for name, variants in aliases.items()}
        self.counts = RecentCounts()

    def choose(self, arrival: Arrival, rooms: list[str]) -> str:
        """Return the model for a request.

        Args:
            arrival: The request.
            rooms: Variants that would serve it at once.
        """
        traffic = self.traffics[arrival.model]
        traffic.arrive(required=arrival.required)
        return traffic.variants[0] if arrival.required else traffic.dealt.next(rooms)

    def share(self, variants: Mapping[str, Shares]) -> None:
        """Take the shares of a plan."""
        for alias, shares in variants.items():
            self.traffics[alias].dealt.shares = shares

    def loads(self, now_s: float, parts: Mapping[str, Observation]) -> dict[str, AliasLoad]:
        """Return the load of each alias at a tick."""
        found = {}
        for alias, traffic in self.traffics.items():
            by_model = {
                name: parts[name].demand_tps * self.counts.share(name, alias)
                for name in traffic.variants
            }
            found[alias] = traffic.load(now_s, by_model)
        self.counts.note(now_s)
        return found
