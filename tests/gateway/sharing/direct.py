"""Gateways that reach each other and their coordinator without Ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import Metric

from steppe.gateway.ended_requests import EndedRequest
from steppe.gateway.server import Gateway
from steppe.gateway.sharing.coordinator import Coordinator
from steppe.gateway.sharing.messages import (
    ChargeAnswer,
    ChargeBatch,
    GatewayReport,
    GatewayShare,
    UnreachableError,
)


@dataclass
class DirectCoordination:
    """Calls a coordinator of this process; one that is `down` does not answer."""

    coordinator: Coordinator
    is_down: bool = False
    batches: list[ChargeBatch] = field(default_factory=list)

    async def exchange(self, report: GatewayReport) -> GatewayShare:
        self._refuse()
        return self.coordinator.exchange(report)

    async def charge(self, batch: ChargeBatch) -> ChargeAnswer:
        self._refuse()
        self.batches.append(batch)
        return self.coordinator.charge(batch)

    def _refuse(self) -> None:
        if self.is_down:
            raise UnreachableError("it is down")


@dataclass
class DirectGateways:
    """Calls gateways of this process, by name."""

    gateways: dict[str, Gateway] = field(default_factory=dict)

    async def metrics(self, gateway: str) -> list[Metric]:
        return self._of(gateway).own_metrics()

    async def find(self, gateway: str, request: str) -> EndedRequest | None:
        return self._of(gateway).find(request)

    async def withdraw(self, gateway: str, work: str) -> bool:
        return self._of(gateway).withdraw(work)

    def _of(self, gateway: str) -> Gateway:
        if gateway not in self.gateways:
            raise UnreachableError(f"{gateway} does not answer")
        return self.gateways[gateway]
