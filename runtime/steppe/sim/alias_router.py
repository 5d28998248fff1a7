"""Which model a request for an alias goes to, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from steppe.control.aliases import AliasCounts, AliasLoads, SharedOut
from steppe.control.state import AliasLoad, Observation
from steppe.control.variants import Shares
from steppe.load.arrivals import Arrival
from steppe.sim.request import Request


class AliasTraffic:
    """The requests for one alias: how many come, and how long the answers are."""

    def __init__(self, variants: tuple[str, ...]) -> None:
        """Begin without requests."""
        self.variants, self.dealt = variants, SharedOut.of(variants)
        self.given = Counter(dict.fromkeys(variants, 0))
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

    @property
    def counts(self) -> AliasCounts:
        """The totals so far."""
        return AliasCounts(
            self._arrived, self._required, self._answered, self._tokens, dict(self.given)
        )


class AliasRouter:
    """The requests for all aliases.

    Attributes:
        traffics: Each alias, by its name.
    """

    def __init__(self, aliases: Mapping[str, tuple[str, ...]]) -> None:
        """Begin with the first variant for all requests.

        Args:
            aliases: The variants of each alias, best first.
        """
        self.traffics = {name: AliasTraffic(variants) for name, variants in aliases.items()}
        self._given: Counter[str] = Counter()
        self._loads = AliasLoads()

    def choose(self, arrival: Arrival, rooms: list[str]) -> str:
        """Return the model for a request.

        Args:
            arrival: The request.
            rooms: Variants that would serve it at once.
        """
        traffic = self.traffics[arrival.model]
        traffic.arrive(required=arrival.required)
        return traffic.variants[0] if arrival.required else traffic.dealt.next(rooms)

    def give(self, model: str, asked: str) -> None:
        """Count a request that a model is given; it asked for an alias, or else an empty name."""
        self._given[model] += 1
        if asked:
            self.traffics[asked].given[model] += 1

    def share(self, variants: Mapping[str, Shares]) -> None:
        """Take the shares of a plan."""
        for alias, shares in variants.items():
            self.traffics[alias].dealt.shares = shares

    def loads(self, now_s: float, parts: Mapping[str, Observation]) -> dict[str, AliasLoad]:
        """Return the load of each alias at a tick."""
        aliases = {name: traffic.counts for name, traffic in self.traffics.items()}
        demand_tps = {name: part.demand_tps for name, part in parts.items()}
        return self._loads.update(now_s, aliases, self._given, demand_tps)
