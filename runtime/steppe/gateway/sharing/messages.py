"""What gateways and their coordinator send each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from steppe.errors import SteppeError
from steppe.tenants.limiter import RequestSize, Taken
from steppe.tenants.tenant import Tenant
from steppe.tenants.usage import LimitState, UsedSoFar


class UnreachableError(SteppeError):
    """The coordinator, or another gateway, does not answer."""


@dataclass(frozen=True, slots=True)
class ReplicaPlaces:
    """The places of one replica, as one gateway sees them.

    Attributes:
        model: The model that it serves.
        limit: Most outstanding requests there, of all gateways together.
        outstanding: Those of this gateway.
        held: Places that this gateway may fill, as far as it knows.
    """

    model: str
    limit: int
    outstanding: int
    held: int


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """The requests for one model at one gateway, or at several.

    Attributes:
        waiting: Requests that wait for a replica, each with its sequences.
        deferrable: Those of them of class `deferrable`.
        outstanding: Requests at replicas, counted in the same way.
        firm_open: Open requests that are not of class `deferrable`, each once.
    """

    waiting: int = 0
    deferrable: int = 0
    outstanding: int = 0
    firm_open: int = 0

    def plus(self, other: ModelTotals) -> ModelTotals:
        """Return the sums."""
        return ModelTotals(
            self.waiting + other.waiting,
            self.deferrable + other.deferrable,
            self.outstanding + other.outstanding,
            self.firm_open + other.firm_open,
        )


NONE = ModelTotals()


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What a gateway says about itself, several times a second.

    Attributes:
        gateway: Its name.
        replicas: The replicas in its routing tables, and those that have requests of it, by name.
        models: Its requests for each model.
    """

    gateway: str
    replicas: Mapping[str, ReplicaPlaces] = field(default_factory=dict)
    models: Mapping[str, ModelTotals] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayShare:
    """What the coordinator answers.

    Attributes:
        coordinator: Distinguishes this start of the coordinator from earlier ones.
        places: Places that the gateway may fill at each replica, by name.
        gateways: Names of the gateways that have reported lately.
        others: The requests at the other gateways, by model.
    """

    coordinator: str = ""
    places: Mapping[str, int] = field(default_factory=dict)
    gateways: tuple[str, ...] = ()
    others: Mapping[str, ModelTotals] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AskedCharge:
    """A request of a tenant with limits, before it begins.

    Attributes:
        id: Id of the charge, unique among those of its gateway.
        tenant: The tenant with its limits.
        size: Its tokens.
    """

    id: str
    tenant: Tenant
    size: RequestSize


@dataclass(frozen=True, slots=True)
class EndedCharge:
    """A request that has ended.

    Attributes:
        id: Id of its charge.
        request: Its id, for `SettledCharge`; empty if the books will say nothing about it.
        taken: What it took, as far as it is known.
    """

    id: str
    request: str
    taken: Taken


@dataclass(frozen=True, slots=True)
class SettledCharge:
    """What the books say that an ended request took."""

    request: str
    taken: Taken


@dataclass(frozen=True, slots=True)
class OpenCharge:
    """A request that is open at a gateway, and that the coordinator was not asked about."""

    id: str
    tenant: str
    age_s: float
    tokens: float
    joules: float


@dataclass(frozen=True, slots=True)
class GatewayUsage:
    """What all tenants with limits have used at one gateway, for a coordinator that is new.

    Attributes:
        used: What each has used, by name; open requests are among it.
        open: The open requests.
    """

    used: Mapping[str, UsedSoFar] = field(default_factory=dict)
    open: tuple[OpenCharge, ...] = ()


@dataclass(frozen=True, slots=True)
class ChargeBatch:
    """Requests of tenants with limits that began or ended at one gateway.

    Attributes:
        gateway: Its name.
        start: Distinguishes this start of the gateway from earlier ones.
        coordinator: Which start of the coordinator has the gateway's usage; empty for none.
        asked: Requests that are to begin.
        begun: Those that have begun without asking, because the coordinator did not answer.
        ended: Those that have ended.
        settled: What the books say about ended ones.
        usage: What was used before; only for a coordinator that has not got it.
    """

    gateway: str
    start: str
    coordinator: str = ""
    asked: tuple[AskedCharge, ...] = ()
    begun: tuple[OpenCharge, ...] = ()
    ended: tuple[EndedCharge, ...] = ()
    settled: tuple[SettledCharge, ...] = ()
    usage: GatewayUsage | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """A request may begin; `states` are those of the tenant's limits."""

    states: Mapping[str, LimitState]


@dataclass(frozen=True, slots=True)
class Denied:
    """A request may not begin, see `LimitReachedError`."""

    limit: str
    message: str
    retry_after_s: float
    states: Mapping[str, LimitState]


@dataclass(frozen=True, slots=True)
class ChargeAnswer:
    """What the coordinator answers to a `ChargeBatch`.

    Attributes:
        coordinator: Distinguishes this start of the coordinator from earlier ones.
        answers: One for each request that was asked for, in the same order: None while the
            coordinator is too new to know what other gateways have. None for all if it needs the
            gateway's usage before: nothing of the batch was taken.
    """

    coordinator: str
    answers: tuple[Granted | Denied | None, ...] | None


class Coordination(Protocol):
    """The coordinator as a gateway reaches it."""

    async def exchange(self, report: GatewayReport) -> GatewayShare:
        """Report, and get a share of the places.

        Raises:
            UnreachableError: The coordinator does not answer.
        """
        ...

    async def charge(self, batch: ChargeBatch) -> ChargeAnswer:
        """Begin and end requests of tenants with limits.

        Raises:
            UnreachableError: The coordinator does not answer.
        """
        ...
