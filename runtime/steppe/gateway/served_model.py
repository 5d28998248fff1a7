"""A model that the gateway serves."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayModel:
    """One model behind the gateway, served by a pool of replicas.

    Attributes:
        name: The name that clients use.
        ttft_s: Longest time to the first token of its SLO, s; requests that can still keep it go
            first.
        tpot_s: Longest mean time per output token of its SLO, s.
        adapters: Names of its LoRA adapters; the same replicas serve them, and for clients each is
            a model.
    """

    name: str
    ttft_s: float
    tpot_s: float = math.inf
    adapters: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which clients may ask for it."""
        return self.name, *self.adapters


@dataclass(frozen=True, slots=True)
class GatewayAlias:
    """A name that clients may ask for instead of a model.

    Attributes:
        name: The name.
        variants: The models that may serve it, by their names, best first.
    """

    name: str
    variants: tuple[str, ...]
