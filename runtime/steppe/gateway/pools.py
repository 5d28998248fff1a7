"""The pools behind the gateway: each has a queue and the replicas of one model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from steppe.control.affinity import Decisions
from steppe.control.variants import Shares
from steppe.errors import SteppeError
from steppe.gateway.alias_shares import AliasShares, VariantPin
from steppe.gateway.gate import AdmissionGate
from steppe.gateway.request_tracker import Waiting
from steppe.gateway.routing import Route
from steppe.gateway.served_model import GatewayAlias, GatewayModel


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

    @property
    def has_room(self) -> bool:
        """Whether a request would be served at once."""
        gate = self.gate
        return gate.table.has_room and not gate.waiting and not gate.is_stale


class Pools:
    """All pools; a request finds its own by the model, or the alias, that it names.

    Attributes:
        aliases: The requests for each alias, by its name.
    """

    def __init__(self, pools: Iterable[Pool], aliases: Iterable[GatewayAlias] = ()) -> None:
        """Keep the pools, at least one.

        Args:
            pools: The pools.
            aliases: Names that stand for several of them.

        Raises:
            ValueError: Two models, adapters of models, or aliases have the same name.
        """
        self._pools = {pool.model.name: pool for pool in pools}
        self._by_name: dict[str, Pool] = {}
        for pool in self:
            for name in pool.model.names:
                if name in self._by_name:
                    raise ValueError(f"model {name} is served twice")
                self._by_name[name] = pool
        self.aliases = {alias.name: AliasShares(alias) for alias in aliases}
        for name in self.aliases:
            if name in self._by_name:
                raise ValueError(f"model {name} is served twice")
        self._only = next(iter(self)) if len(self._pools) == 1 else None

    def __iter__(self) -> Iterator[Pool]:
        """Iterate over the pools in the order of the configuration."""
        return iter(self._pools.values())

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which clients may ask for a model."""
        return *self._by_name, *self.aliases

    @property
    def only(self) -> Pool | None:
        """The pool if there is one only; it gets every request, whatever model it names."""
        return self._only

    def of(self, name: str | None) -> Pool:
        """Return the pool for a request that names this model, or none.

        That of an alias is the pool of its first variant. The engine behind a single pool answers
        for itself whether it knows the name.

        Raises:
            ModelNameError: It is served by no pool, or none is named and there are several.
        """
        if self._only is not None:
            return self._only
        if name is None:
            known = ", ".join(self.names)
            message = f"asked for a request with a `model` of {known}, found one without"
            raise ModelNameError(message, 400, "missing_required_parameter")
        alias = self.aliases.get(name)
        if alias is not None:
            return self._pools[alias.variants[0]]
        pool = self._by_name.get(name)
        if pool is None:
            raise self.unknown(name)
        return pool

    def alias(self, name: str | None) -> AliasShares | None:
        """Return the alias of this name; None if it is none."""
        return None if name is None else self.aliases.get(name)

    def variants_of(self, alias: AliasShares) -> tuple[Pool, ...]:
        """Return the pools that may serve an alias, best first."""
        return tuple(self._pools[name] for name in alias.variants)

    def choose(self, alias: AliasShares, pin: VariantPin) -> Pool:
        """Return the pool for a request for an alias, and count it.

        Args:
            alias: The alias.
            pin: Which variants the client takes.
        """
        rooms = [pool.model.name for pool in self.variants_of(alias) if pool.has_room]
        return self._pools[alias.choose(pin, rooms)]

    def set_shares(self, shares: Mapping[str, Shares]) -> None:
        """Deal the requests for aliases by these shares, and those that wait where there is room.

        Args:
            shares: The share of each variant, by alias.
        """
        for name, of_variants in shares.items():
            if name in self.aliases:
                self.aliases[name].set(of_variants)
        for alias in self.aliases.values():
            pools = self.variants_of(alias)
            for source in pools:
                for other in pools:
                    if other is not source:
                        _move_waiting(alias, source, other)

    def unknown(self, name: str) -> ModelNameError:
        """Return the error for a model that no pool serves."""
        message = f"asked for model {name[:128]}, found {', '.join(self.names)}"
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


def _move_waiting(alias: AliasShares, source: Pool, other: Pool) -> None:
    """Let requests for an alias that wait at one variant go to another that has room."""
    free = other.gate.table.free_places if other.has_room else 0
    if free and source.gate.waiting:
        source.gate.move_waiting(alias.name, other.model.name, free)
