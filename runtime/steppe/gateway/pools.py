"""The pools behind the gateway: each has a queue and the replicas of one model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from steppe.control.affinity import Decisions
from steppe.errors import SteppeError
from steppe.gateway.gate import AdmissionGate
from steppe.gateway.request_tracker import Waiting
from steppe.gateway.routing import Route
from steppe.gateway.served_model import GatewayModel


class ModelNameError(SteppeError):
    """A request names no model that is served.

    Attributes:
        status: The HTTP status of the answer.
        code: `model_not_found`, or `missing_required_parameter` if it names none at all.
    """

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True, slots=True)
class Pool:
    """The replicas of one model, and the requests that wait for them.

    Attributes:
        model: The model.
        gate: Admission of its requests; requests for other models never hold them up.
    """

    model: GatewayModel
    gate: AdmissionGate


class Pools:
    """All pools; a request finds its own by the model that it names."""

    def __init__(self, pools: Iterable[Pool]) -> None:
        """Keep the pools, at least one.

        Raises:
            ValueError: Two models, or adapters of models, have the same name.
        """
        self._pools = {pool.model.name: pool for pool in pools}
        self._by_name: dict[str, Pool] = {}
        for pool in self:
            for name in pool.model.names:
                if name in self._by_name:
                    raise ValueError(f"model {name} is served twice")
                self._by_name[name] = pool
        self._only = next(iter(self)) if len(self._pools) == 1 else None

    def __iter__(self) -> Iterator[Pool]:
        """Iterate over the pools in the order of the configuration."""
        return iter(self._pools.values())

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which clients may ask for a model."""
        return tuple(self._by_name)

    @property
    def only(self) -> Pool | None:
        """The pool if there is one only; it gets every request, whatever model it names."""
        return self._only

    def of(self, name: str | None) -> Pool:
        """Return the pool for a request that names this model, or none.

        The engine behind a single pool answers for itself whether it knows the name.

        Raises:
            ModelNameError: It is served by no pool, or none is named and there are several.
        """
        if self._only is not None:
            return self._only
        if name is None:
            known = ", ".join(self._by_name)
            message = f"asked for a request with a `model` of {known}, found one without"
            raise ModelNameError(message, 400, "missing_required_parameter")
        pool = self._by_name.get(name)
        if pool is None:
            raise self.unknown(name)
        return pool

    def unknown(self, name: str) -> ModelNameError:
        """Return the error for a model that no pool serves."""
        message = f"asked for model {name[:128]}, found {', '.join(self._by_name)}"
        return ModelNameError(message, 404, "model_not_found")

    def candidates(self) -> tuple[Route, ...]:
        """Return the awake replicas of all pools that respond, those of each together."""
        return tuple(route for pool in self for route in pool.gate.table.candidates())

    def waiting(self) -> dict[str, Waiting]:
        """Return the waiting requests for each model."""
        return {p.model.name: (p.gate.waiting, p.gate.deferrable) for p in self}

    def outstanding(self) -> dict[str, int]:
        """Return the outstanding requests of every replica."""
        found: dict[str, int] = {}
        for pool in self:
            found |= pool.gate.table.all_outstanding()
        return found

    def cache_worth(self) -> dict[str, float]:
        """Return how many blocks of recent prompts the cache of each replica could serve."""
        known = (pool.gate.table.caches for pool in self)
        return {name: w for caches in known if caches for name, w in caches.worth().items()}

    def placements(self) -> dict[str, Decisions]:
        """Return how the requests for each model were placed by their prompts."""
        tables = ((pool.model.name, pool.gate.table.caches) for pool in self)
        return {name: caches.decisions for name, caches in tables if caches is not None}

    def set_routes(self, routes: Iterable[Route], capacity_s: Mapping[str, float | None]) -> None:
        """Replace all routing tables.

        Args:
            routes: The awake replicas; with one pool, a route needs no model.
            capacity_s: Time at which more capacity is forecast for each model, s; None, or no
                entry, if unknown.
        """
        by_model: defaultdict[str, list[Route]] = defaultdict(list)
        for route in routes:
            only = "" if self._only is None else self._only.model.name
            by_model[route.model or only].append(route)
        unknown = by_model.keys() - self._pools.keys()
        assert not unknown, f"routes of models that are not served: {', '.join(unknown)}"
        for name, pool in self._pools.items():
            pool.gate.set_routes(tuple(by_model[name]), capacity_s.get(name))

    def close(self) -> None:
        """Refuse all waiting and new requests."""
        for pool in self:
            pool.gate.close()

    def cancel_all(self) -> None:
        """End all requests that have a slot, because the gateway stops."""
        for pool in self:
            pool.gate.cancel_all()

    @property
    def routes_age_s(self) -> float:
        """Time since the routing tables were last set, s; not a number before."""
        return next(iter(self)).gate.routes_age_s

    @property
    def is_stale(self) -> bool:
        """Whether the controller has been silent for too long."""
        return next(iter(self)).gate.is_stale
