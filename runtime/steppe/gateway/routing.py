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


class RoutingTable:
    """The awake replicas and what each has outstanding.

    A replica that leaves the table gets nothing more; what it has outstanding stays counted until
    it is released, so that a drain can be watched.
    """

    def __init__(self) -> None:
        self._routes: tuple[Route, ...] = ()
        self._outstanding: Counter[str] = Counter()
        self._fresh: Counter[str] = Counter()
        self._suspects: set[str] = set()
        self._turn = 0

    @property
    def routes(self) -> tuple[Route, ...]:
        """The awake replicas, as last told."""
        return self._routes

    def replace(self, routes: tuple[Route, ...]) -> None:
        """Take a new table; it clears every suspicion, for its author knows who is alive."""
        assert len({route.replica for route in routes}) == len(routes), "a replica is listed twice"
        self._routes = routes
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
        self._outstanding[best.replica] += 1
        self._fresh[best.replica] += 1
        return best

    def begin(self, replica: str) -> None:
        """Note that a request has got its first token."""
        assert self._fresh[replica] > 0, f"nobody waits for a first token at {replica}"
        self._fresh[replica] -= 1

    def lists(self, route: Route) -> bool:
        """Return whether the table still has this replica at this place; its limit may differ."""
        return any((r.replica, r.url) == (route.replica, route.url) for r in self._routes)

    def candidates(self) -> tuple[Route, ...]:
        """Return the replicas that may answer a request that takes no place, idlest first."""
        able = [route for route in self._in_turn() if route.replica not in self._suspects]
        return tuple(sorted(able, key=lambda route: self._outstanding[route.replica]))

    def release(self, replica: str) -> None:
        """Give back a place taken by `acquire`, after `begin`."""
        assert self._outstanding[replica] > 0, f"nothing is outstanding at {replica}"
        self._outstanding[replica] -= 1
        if not self._outstanding[replica]:
            del self._outstanding[replica], self._fresh[replica]

    def suspect(self, replica: str) -> None:
        """Stop routing to a replica that does not answer, until the next `replace`."""
        self._suspects.add(replica)

    def outstanding(self, replica: str) -> int:
        """Return how many places are taken at a replica, in the table or not."""
        return self._outstanding[replica]

    def all_outstanding(self) -> dict[str, int]:
        """Return the places taken at every replica in the table, and at those still draining."""
        return {route.replica: 0 for route in self._routes} | dict(self._outstanding)

    def _in_turn(self) -> tuple[Route, ...]:
        turn = self._turn % len(self._routes) if self._routes else 0
        return self._routes[turn:] + self._routes[:turn]

    def _load(self, route: Route) -> float:
        replica = route.replica
        return load_of(self._outstanding[replica], self._fresh[replica], route.limit)

    def _has_room(self, route: Route) -> bool:
        taken = self._outstanding[route.replica]
        return taken < route.limit and route.replica not in self._suspects
