"""A slot at a replica: what a request gets there, and what one that waits for it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from steppe.gateway.cancel_scope import CancelScope
from steppe.gateway.routing import Route


@dataclass(eq=False, slots=True)
class ReplicaSlot:
    """One request's slot at a replica.

    Attributes:
        route: The route to the replica.
        places: Places that it takes there.
        streams: Whether the request's first token will be seen.
        later: Whether the request is deferrable.
        has_begun: Whether the request has its first token.
        scope: Ends the exchange with the replica when it is cancelled.
        can_move: Returns whether the request could go on at another replica.
        is_charged: Whether the request has waited, so that its class and tenant were charged.
    """

    route: Route
    places: int = 1
    streams: bool = False
    later: bool = False
    has_begun: bool = False
    scope: CancelScope = field(default_factory=CancelScope)
    can_move: Callable[[], bool] = lambda: False
    is_charged: bool = False


@dataclass(frozen=True, slots=True)
class PendingSlot:
    """A request that waits for a slot.

    Attributes:
        slot: The slot that it gets.
        places: Its sequences.
        streams: Whether its first token will be seen.
        blocks: Chained hashes of the blocks of its prompt.
        alias: The alias that it asks for, if any variant may serve it; else empty.
        later: Whether it is deferrable.
    """

    slot: asyncio.Future[ReplicaSlot]
    places: int
    streams: bool
    blocks: tuple[int, ...] = ()
    alias: str = ""
    later: bool = False
