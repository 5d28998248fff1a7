"""Routing: the next request goes to the least loaded replica."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from steppe.control.placing import load_of


@dataclass(frozen=True, slots=True)
class Route:
    """The route to an awake replica.

    Attributes:
        replica: The replica's name.
        url: Where its HTTP app listens, without a trailing slash.
        limit: Most outstanding requests there (its batch limit and a small queue).
    """

    replica: str
    url: str
    limit: int

    @property
    def address(self) -> tuple[str, str]:
        """Name and URL: a replica that restarted elsewhere keeps its name only."""
        return self.replica, self.url


class RoutingTable:
    """The awake replicas and their outstanding requests.

    A replica that leaves the table gets no more requests; its outstanding ones stay counted until
    they are released, so that a drain can be observed. Requests at an earlier address of a replica
    do not count against the limit at its present one.
    """

    def __init__(self) -> None:
        self._routes: tuple[Route, ...] = ()
        self._urls: dict[str, str] = {}
        self._outstanding: Counter[tuple[str, str]] = Counter()
        self._prefilling: Counter[tuple[str, str]] = Counter()
        self._suspects: set[tuple[str, str]] = set()
        self._next_index = 0

    @property
    def routes(self) -> tuple[Route, ...]:
        """The awake replicas of the present table."""
        return self._routes

    def replace(self, routes: tuple[Route, ...]) -> None:
        """Replace the table and clear all suspects, because the controller checks its replicas."""
        self._routes, self._urls = routes, {route.replica: route.url for route in routes}
        assert len(self._urls) == len(routes), "a replica is listed twice"
        self._suspects.clear()

    def acquire(self) -> Route | None:
        """Take a slot at the least loaded replica; ties rotate.

        Returns:
            The route, to be given back with `release`; None if every replica is full. Until
            `begin`, the request counts as one without its first token.
        """
        free = [route for route in self._rotated() if self._has_room(route)]
        if not free:
            return None
        best = min(free, key=self._load)
        self._next_index = self._routes.index(best) + 1
        self._outstanding[best.address] += 1
        self._prefilling[best.address] += 1
        return best

    def begin(self, route: Route) -> None:
        """Note that a request has its first token."""
        assert self._prefilling[route.address] > 0, f"no request without a first token at {route}"
        self._prefilling[route.address] -= 1

    def contains(self, route: Route) -> bool:
        """Return whether the table has this replica at this address; its limit may differ."""
        return self._urls.get(route.replica) == route.url

    def has_moved(self, route: Route) -> bool:
        """Return whether this replica has another address now."""
        return self._urls.get(route.replica, route.url) != route.url

    def candidates(self) -> tuple[Route, ...]:
        """Return the awake replicas that are not suspects, least outstanding first."""
        usable = [route for route in self._rotated() if route.address not in self._suspects]
        return tuple(sorted(usable, key=lambda route: self._outstanding[route.address]))

    def release(self, route: Route) -> None:
        """Give back a slot taken by `acquire`, after `begin`."""
        address = route.address
        assert self._outstanding[address] > 0, f"no outstanding request at {route}"
        self._outstanding[address] -= 1
        if not self._outstanding[address]:
            del self._outstanding[address], self._prefilling[address]

    def suspect(self, route: Route) -> None:
        """Stop routing to a replica that does not respond, until the next `replace`."""
        self._suspects.add(route.address)

    def outstanding(self, replica: str) -> int:
        """Return the outstanding requests of a replica, in the table or not, at any address."""
        return self.all_outstanding().get(replica, 0)

    def all_outstanding(self) -> dict[str, int]:
        """Return the outstanding requests of every replica in the table, and of draining ones."""
        counts = {route.replica: 0 for route in self._routes}
        for (replica, _), count in self._outstanding.items():
            counts[replica] = counts.get(replica, 0) + count
        return counts

    def _rotated(self) -> tuple[Route, ...]:
        first = self._next_index % len(self._routes) if self._routes else 0
        return self._routes[first:] + self._routes[:first]

    def _load(self, route: Route) -> float:
        address = route.address
        return load_of(self._outstanding[address], self._prefilling[address], route.limit)

    def _has_room(self, route: Route) -> bool:
        taken = self._outstanding[route.address]
        return taken < route.limit and route.address not in self._suspects
