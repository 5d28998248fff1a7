"""How the gateways of a run reach their coordinator and each other: calls to Ray actors."""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from prometheus_client import Metric

from steppe.fleet.cluster import error_line
from steppe.gateway.ended_requests import EndedRequest
from steppe.gateway.sharing.coordinator import Coordinator
from steppe.gateway.sharing.messages import (
    ChargeAnswer,
    ChargeBatch,
    GatewayReport,
    GatewayShare,
    UnreachableError,
)

TIMEOUT_S, CHARGE_TIMEOUT_S = 1.0, 5.0
"""Longest wait for the answer of another actor, s, and for that to a request of a tenant with
limits: without it the limit is less exact. An actor that is dead fails at once."""


def gateway_actor(run_id: str, name: str = "") -> str:
    """Return Ray's name of the actor of a gateway; `name` is empty for the only one of a run."""
    return f"steppe-gateway-{run_id}" + (f"-{name}" if name else "")


def coordinator_actor(run_id: str) -> str:
    """Return Ray's name of the actor of a coordinator."""
    return f"steppe-gateway-coordinator-{run_id}"


class GatewayCoordinator:
    """The actor of the coordinator."""

    def __init__(self) -> None:
        """Begin without gateways."""
        self._coordinator = Coordinator()

    async def ping(self) -> None:
        """Return: this actor does not hang."""

    async def exchange(self, report: GatewayReport) -> GatewayShare:
        """Take a report of a gateway, see `Coordinator.exchange`."""
        return self._coordinator.exchange(report)

    async def charge(self, batch: ChargeBatch) -> ChargeAnswer:
        """Begin and end requests, see `Coordinator.charge`."""
        return self._coordinator.charge(batch)


class GatewayPeers:
    """Calls the coordinator and the other gateways of a run from the actor of a gateway."""

    def __init__(self, run_id: str) -> None:
        """Keep the run; actors are looked up when they are called first."""
        self._run_id = run_id
        self._actors: dict[str, Any] = {}

    async def exchange(self, report: GatewayReport) -> GatewayShare:
        """Report to the coordinator."""
        found: GatewayShare = await self._ask(self._coordinator, "exchange", report)
        return found

    async def charge(self, batch: ChargeBatch) -> ChargeAnswer:
        """Begin and end requests of tenants with limits at the coordinator."""
        found: ChargeAnswer = await self._ask(
            self._coordinator, "charge", batch, timeout_s=CHARGE_TIMEOUT_S
        )
        return found

    async def metrics(self, gateway: str) -> list[Metric]:
        """Return the metrics of a gateway."""
        found: list[Metric] = await self._ask(self._name(gateway), "metrics")
        return found

    async def find(self, gateway: str, request: str) -> EndedRequest | None:
        """Return a request that ended lately at a gateway."""
        found: EndedRequest | None = await self._ask(self._name(gateway), "find", request)
        return found

    async def withdraw(self, gateway: str, work: str) -> bool:
        """Forget a job that was declared at a gateway."""
        return bool(await self._ask(self._name(gateway), "withdraw", work))

    @property
    def _coordinator(self) -> str:
        return coordinator_actor(self._run_id)

    def _name(self, gateway: str) -> str:
        return gateway_actor(self._run_id, gateway)

    async def _ask(
        self, name: str, method: str, *args: object, timeout_s: float = TIMEOUT_S
    ) -> Any:
        try:
            if name not in self._actors:
                self._actors[name] = await asyncio.to_thread(ray.get_actor, name)
            async with asyncio.timeout(timeout_s):
                return await getattr(self._actors[name], method).remote(*args)
        except TimeoutError as error:
            raise UnreachableError(f"{name}: no answer within {timeout_s:g} s") from error
        except ValueError as error:  # there is no such actor
            raise UnreachableError(f"{name}: {error}") from error
        except ray.exceptions.RayError as error:
            self._actors.pop(name, None)  # another one may have its name by now
            raise UnreachableError(f"{name}: {error_line(error)}") from error
