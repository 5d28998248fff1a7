"""An alias at the gateway: which variant a request for it goes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Literal, get_args

from steppe.control.aliases import AliasCounts, SharedOut
from steppe.control.variants import Shares
from steppe.gateway.request import RequestContext
from steppe.gateway.served_model import GatewayAlias

VARIANT_HEADER = "x-steppe-variant"
"""Which variants of an alias a client takes."""

VariantPin = Literal["required", "preferred", "any"]
"""`required`: the first variant alone. `preferred`: the first while it has room, or else any.
`any`: as the plan shares them out."""
PINS: tuple[VariantPin, ...] = get_args(VariantPin)


class AliasShares:
    """The requests for one alias: they are dealt to its variants by the shares of the plan.

    Attributes:
        name: Its name.
        variants: The models that may serve it, best first.
    """

    def __init__(self, alias: GatewayAlias) -> None:
        """Begin with the first variant for all."""
        self.name, self.variants = alias.name, alias.variants
        self._dealt = SharedOut.of(alias.variants)
        self._given = Counter(dict.fromkeys(alias.variants, 0))
        self._arrived = self._required = self._answered = self._tokens = 0

    @property
    def shares(self) -> Shares:
        """The share of each variant."""
        return self._dealt.shares

    def set(self, shares: Shares) -> None:
        """Deal the next requests by other shares."""
        self._dealt.shares = {name: shares.get(name, 0.0) for name in self.variants}

    def choose(self, pin: VariantPin, rooms: Collection[str]) -> str:
        """Return the variant of a request that has arrived, and count it.

        Args:
            pin: Which variants its client takes.
            rooms: Variants that would serve it at once.
        """
        first = self.variants[0]
        self._arrived += 1
        self._required += pin == "required"
        takes_first = pin == "required" or (pin == "preferred" and first in rooms)
        chosen = first if takes_first else self._dealt.next(rooms)
        self._given[chosen] += 1
        return chosen

    def move(self, model: str) -> None:
        """Count a request that goes to another variant."""
        self._given[model] += 1

    def end(self, context: RequestContext) -> None:
        """Count a request that has ended."""
        tokens = context.output_tokens
        if tokens:
            self._answered += 1
            self._tokens += tokens

    @property
    def counts(self) -> AliasCounts:
        """The totals so far."""
        return AliasCounts(
            self._arrived, self._required, self._answered, self._tokens, dict(self._given)
        )
