"""Routing: the next request goes to the replica that holds its prefix, or is the least loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from steppe.control.affinity import Numbering
from steppe.control.placing import ReplicaSlots
from steppe.gateway.replica_caches import ReplicaCaches

_ANY_LOAD = 1e9
"""A bound of the load that no replica reaches, times its fair share."""

Address = tuple[str, str]
"""Name and URL of a replica. A replica that restarted elsewhere keeps its name only."""


@dataclass(frozen=True, slots=True)
class Route:
    """The route to an awake replica.

    Attributes:
        replica: The replica's name.
        url: Where its HTTP app listens, without a trailing slash.
        limit: Most outstanding requests there (its batch limit and a small queue).
        model: The model of its pool, by the name that clients use; empty where there is only one.
        output_tps: Output tokens/s of its operating point; 0 if unknown.
        cache_losses: How often it has lost its prefix cache at this URL.
    """

    replica: str
    url: str
    limit: int
    model: str = ""
    output_tps: float = 0.0
    cache_losses: int = 0

    @property
    def address(self) -> Address:
        """Name and URL."""
        return self.replica, self.url


class RoutingTable:
    """The awake replicas and their outstanding requests.

    A replica that leaves the table gets no more requests; its outstanding ones stay counted until
    they are released, so that a drain can be observed. Requests at an earlier address of a replica
    do not count against the limit at its present one.

    Attributes:
        prompt_wait_s: Longest time that prompts may wait at a replica, s; a change holds from the
            next `replace` on.
    """

    def __init__(self, prompt_wait_s: float = inf, caches: ReplicaCaches | None = None) -> None:
        """Begin without replicas.

        Args:
            prompt_wait_s: Longest time that prompts may wait at a replica, s.
            caches: What the replicas hold; the load alone decides if None.
        """
        self.prompt_wait_s, self.caches = prompt_wait_s, caches
        self._routes: tuple[Route, ...] = ()
        self._held: Mapping[str, int] | None = None
        self._urls: dict[str, str] = {}
        self._indices: dict[Address, int] = {}
        self._slots = ReplicaSlots(())
        self._suspects: set[Address] = set()
        self._numbering = Numbering(())

    @property
    def routes(self) -> tuple[Route, ...]:
        """The awake replicas of the present table."""
        return self._routes

    @property
    def held(self) -> dict[str, int]:
        """How many places of each awake replica this gateway may fill."""
        limits = {route.replica: route.limit for route in self._routes}
        if self._held is None:
            return limits
        return {name: min(limit, self._held.get(name, 0)) for name, limit in limits.items()}

    @property
    def has_room(self) -> bool:
        """Whether a request of one sequence would get a slot."""
        return self._slots.has_room

    @property
    def free_places(self) -> int:
        """Requests of one sequence that would get a slot now."""
        return self._slots.free_places

    def replace(self, routes: tuple[Route, ...]) -> None:
        """Replace the table and clear all suspects, because the controller checks its replicas."""
        self._urls = {route.replica: route.url for route in routes}
        assert len(self._urls) == len(routes), "a replica is listed twice"
        before, indices = self._slots, self._indices
        addresses = [route.address for route in routes]
        # What drains keeps its count, at a limit of 0.
        draining = [address for address, i in indices.items() if before.outstanding[i]]
        known = set(addresses)
        addresses += [address for address in draining if address not in known]
        limits = [route.limit for route in routes] + [0] * (len(addresses) - len(routes))
        self._slots = ReplicaSlots(limits, before.next, self.prompt_wait_s)
        self._slots.set_speeds([r.output_tps for r in routes] + [0.0] * (len(limits) - len(routes)))
        for index, address in enumerate(addresses):
            if address in indices:
                self._slots.occupy(index, before.occupancy(indices[address]))
        self._routes = routes
        self._narrow()
        if self.caches is not None:
            self.caches.note([(r.replica, (r.url, r.cache_losses)) for r in routes])
            self._numbering = self.caches.numbering(replica for replica, _ in addresses)
        self._indices = {address: index for index, address in enumerate(addresses)}
        self._suspects.clear()

    def share(self, places: Mapping[str, int]) -> None:
        """Fill at most so many places of each replica from now on; none of one that is left out.

        Other gateways fill the others.
        """
        self._held = places
        self._narrow()

    def _narrow(self) -> None:
        if self._held is not None:
            for index, limit in enumerate(self.held.values()):
                self._slots.narrow(index, limit)

    def acquire(
        self, places: int = 1, blocks: Sequence[int] = (), *, later: bool = False
    ) -> Route | None:
        """Take a slot at the replica with the longest part of a prompt, or the least loaded one.

        Args:
            places: Sequences of the request; it takes no more of them than the limit of its route.
            blocks: Chained hashes of the blocks of its prompt; empty if unknown.
            later: Whether it is deferrable.

        Returns:
            The route, to be given back with `release`; None if every replica is full. Until
            `begin`, the request counts as one without its first token.
        """
        if self.caches is None or not blocks:
            index = self._slots.acquire(places, later=later)
        else:
            index = self.caches.acquire(self._slots, blocks, places, self._numbering, later=later)
        return None if index is None else self._routes[index]

    def acquire_but(
        self, avoid: Collection[str], places: int = 1, *, later: bool = False
    ) -> Route | None:
        """Take a slot at the least loaded replica that is not to be avoided; None without one."""
        with_room = self._slots.within(_ANY_LOAD, places, later=later)
        roomy = [i for i in with_room if i < len(self._routes)]
        others = [i for i in roomy if self._routes[i].replica not in avoid]
        if not others:
            return None
        index = self._slots.least_of(others)
        self._slots.take(index, places, later=later)
        return self._routes[index]

    def should_wait(self, places: int, blocks: Sequence[int]) -> bool:
        """Return whether a busy replica holds much more of a prompt than those with room."""
        if self.caches is None or not blocks:
            return False
        return self.caches.should_wait(self._slots, blocks, places, self._numbering)

    def expect_first_token(self, route: Route, now_s: float, places: int = 1) -> None:
        """Note that the first token of a new request will be seen, because it streams."""
        self._slots.expect_first_token(self._indices[route.address], now_s, places)

    def begin(
        self,
        route: Route,
        now_s: float = 0.0,
        places: int = 1,
        *,
        streams: bool = False,
        later: bool = False,
    ) -> None:
        """Note that a request has its first token, or has ended without one.

        Args:
            route: Its route.
            now_s: The time, s.
            places: Places that it took.
            streams: Whether `expect_first_token` was called for it.
            later: Whether it is deferrable.
        """
        index = self._indices[route.address]
        self._slots.begin(index, now_s, places, streams=streams, later=later)

    def contains(self, route: Route) -> bool:
        """Return whether the table has this replica at this address; its limit may differ."""
        return self._urls.get(route.replica) == route.url

    def has_moved(self, route: Route) -> bool:
        """Return whether this replica has another address now."""
        return self._urls.get(route.replica, route.url) != route.url

    def candidates(self) -> tuple[Route, ...]:
        """Return the awake replicas that are not suspects, least outstanding first."""
        first = self._slots.next % len(self._routes) if self._routes else 0
        rotated = self._routes[first:] + self._routes[:first]
        usable = [route for route in rotated if route.address not in self._suspects]
        outstanding = self._slots.outstanding
        return tuple(sorted(usable, key=lambda route: outstanding[self._indices[route.address]]))

    def release(self, route: Route, places: int = 1, *, later: bool = False) -> None:
        """Give back a slot taken by `acquire`, after `begin`."""
        self._slots.release(self._indices[route.address], places, later=later)

    def suspect(self, route: Route) -> None:
        """Stop routing to a replica that does not respond, until the next `replace`."""
        self._suspects.add(route.address)
        if route.address in self._indices:
            self._slots.limit(self._indices[route.address], 0)

    def outstanding(self, replica: str) -> int:
        """Return the outstanding requests of a replica, in the table or not, at any address."""
        return self.all_outstanding().get(replica, 0)

    def all_outstanding(self) -> dict[str, int]:
        """Return the outstanding requests of every replica in the table, and of draining ones."""
        counts = {route.replica: 0 for route in self._routes}
        for (replica, _), index in self._indices.items():
            if count := self._slots.outstanding[index]:
                counts[replica] = counts.get(replica, 0) + count
        return counts
