"""Which replica answers the next request: the least loaded one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from steppe.control.placing import load_of


@dataclass(frozen=True, slots=True)
class Route:
    """The way to an awake replica.

    Attributes:
        replica: The replica's name.
        url: Where its HTTP app listens, without a trailing slash.
        limit: Most requests to have outstanding there (its batch limit and a small queue).
    """

    replica: str
    url: str
    limit: int

    @property
    def address(self) -> tuple[str, str]:
        """Name and URL: a replica that was started anew elsewhere keeps its name alone."""
        return self.replica, self.url


class RoutingTable:
    """The awake replicas and what each has outstanding.

    A replica that leaves the table gets nothing more; what it has outstanding stays counted until
    it is released, so that a drain can be watched. What went to another address of a replica takes
    no place at the present one.
    """

    def __init__(self) -> None:
        self._routes: tuple[Route, ...] = ()
        self._urls: dict[str, str] = {}
        self._outstanding: Counter[tuple[str, str]] = Counter()
        self._fresh: Counter[tuple[str, str]] = Counter()
        self._suspects: set[tuple[str, str]] = set()
        self._turn = 0

    @property
    def routes(self) -> tuple[Route, ...]:
        """The awake replicas, as last told."""
        return self._routes

    def replace(self, routes: tuple[Route, ...]) -> None:
        """Take a new table; it clears every suspicion, for its author knows who is alive."""
        self._routes, self._urls = routes, {route.replica: route.url for route in routes}
        assert len(self._urls) == len(routes), "a replica is listed twice"
        self._suspects.clear()

    def acquire(self) -> Route | None:
        """Take one place at the replica that is the least loaded; ties rotate.

        Returns:
            The route, to be given back with `release`; nothing when every replica is full. The
            request counts as one that waits for its first token, until `begin` or `release`.
        """
        room = [route for route in self._in_turn() if self._has_room(route)]
        if not room:
            return None
        best = min(room, key=self._load)
        self._turn = self._routes.index(best) + 1
        self._outstanding[best.address] += 1
        self._fresh[best.address] += 1
        return best

    def begin(self, route: Route) -> None:
        """Note that a request has got its first token."""
        assert self._fresh[route.address] > 0, f"nobody waits for a first token at {route}"
        self._fresh[route.address] -= 1

    def lists(self, route: Route) -> bool:
        """Return whether the table still has this replica at this address; its limit may differ."""
        return self._urls.get(route.replica) == route.url

    def has_moved(self, route: Route) -> bool:
        """Return whether this replica has another address now, so that this one leads nowhere."""
        return self._urls.get(route.replica, route.url) != route.url

    def candidates(self) -> tuple[Route, ...]:
        """Return the replicas that may answer a request that takes no place, idlest first."""
        able = [route for route in self._in_turn() if route.address not in self._suspects]
        return tuple(sorted(able, key=lambda route: self._outstanding[route.address]))

    def release(self, route: Route) -> None:
        """Give back a place taken by `acquire`, after `begin`."""
        address = route.address
        assert self._outstanding[address] > 0, f"nothing is outstanding at {route}"
        self._outstanding[address] -= 1
        if not self._outstanding[address]:
            del self._outstanding[address], self._fresh[address]

    def suspect(self, route: Route) -> None:
        """Stop routing to a replica that does not answer, until the next `replace`."""
        self._suspects.add(route.address)

    def outstanding(self, replica: str) -> int:
        """Return how many places are taken at a replica, in the table or not, at any address."""
        return self.all_outstanding().get(replica, 0)

    def all_outstanding(self) -> dict[str, int]:
        """Return the places taken at every replica in the table, and at those still draining."""
        taken = {route.replica: 0 for route in self._routes}
        for (replica, _), count in self._outstanding.items():
            taken[replica] = taken.get(replica, 0) + count
        return taken

    def _in_turn(self) -> tuple[Route, ...]:
        turn = self._turn % len(self._routes) if self._routes else 0
        return self._routes[turn:] + self._routes[:turn]

    def _load(self, route: Route) -> float:
        address = route.address
        return load_of(self._outstanding[address], self._fresh[address], route.limit)

    def _has_room(self, route: Route) -> bool:
        taken = self._outstanding[route.address]
        return taken < route.limit and route.address not in self._suspects
