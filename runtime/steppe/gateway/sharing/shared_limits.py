"""A gateway's side of the limits that several gateways keep together.

Each request of a tenant with limits is charged at the coordinator. The calls are batches: while one
is under way the next requests gather, so many requests need few calls. While the coordinator does
not answer, a gateway keeps its even part of each limit by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from steppe.gateway.sharing.messages import (
    AskedCharge,
    ChargeAnswer,
    ChargeBatch,
    Coordination,
    Denied,
    EndedCharge,
    GatewayUsage,
    Granted,
    OpenCharge,
    SettledCharge,
    UnreachableError,
)
from steppe.tenants.limiter import RequestSize, Taken, TenantLimiter
from steppe.tenants.tenant import NO_LIMITS, Tenant, TenantLimits
from steppe.tenants.usage import LimitReachedError, LimitState, RequestCharge

GATHER_S = 0.05
"""Ends of requests are sent within this time, s, or with the next request that begins."""

NOTHING = Taken(0, 0, 0.0)
"""What a request took that no replica had."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class SharedCharge(RequestCharge):
    """A charge that the coordinator has, too.

    Attributes:
        id: Its id there.
    """

    id: str = ""


@dataclass(frozen=True, slots=True)
class _Asking:
    asked: AskedCharge
    answer: asyncio.Future[Granted | Denied | None]


class SharedLimits:
    """Charges requests at the coordinator; use it on one event loop.

    Attributes:
        gateways: How many gateways share the limits.
    """

    def __init__(
        self,
        gateway: str,
        coordination: Coordination,
        local: TenantLimiter,
        now_s: Callable[[], float],
        gateways: int,
    ) -> None:
        """Begin without requests.

        Args:
            gateway: Name of this gateway.
            coordination: The coordinator.
            local: Gets what this gateway's requests take; counts alone while the coordinator does
                not answer.
            now_s: Reads the monotonic clock, s.
            gateways: How many gateways share the limits.
        """
        self._gateway, self._start = gateway, uuid.uuid4().hex
        self._coordination, self._local, self._now_s = coordination, local, now_s
        self.gateways = gateways
        self._coordinator, self._is_known = "", False
        self._numbers = itertools.count(1)
        self._asking: list[_Asking] = []
        self._begun: list[OpenCharge] = []
        self._ended: list[EndedCharge] = []
        self._settled: list[SettledCharge] = []
        self._open: dict[str, SharedCharge] = {}
        self._used: set[str] = set()  # tenants with limits
        self._states: dict[str, Mapping[str, LimitState]] = {}
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def admit(self, tenant: Tenant, size: RequestSize) -> RequestCharge:
        """Charge a new request, see `TenantLimiter.admit`.

        Raises:
            LimitReachedError: A limit does not allow it.
        """
        if tenant.limits == NO_LIMITS:
            return self._local.admit(tenant, self._now_s(), size)
        self._used.add(tenant.name)
        asked = AskedCharge(str(next(self._numbers)), tenant, size)
        loop = asyncio.get_running_loop()
        asking = _Asking(asked, loop.create_future())
        self._asking.append(asking)
        self._wake.set()
        try:
            answer = await asking.answer
        except asyncio.CancelledError:
            if asking in self._asking:
                self._asking.remove(asking)
            else:  # it may be granted
                self._end(EndedCharge(asked.id, "", NOTHING))
            raise
        if isinstance(answer, Denied):
            raise LimitReachedError(answer.limit, answer.message, answer.retry_after_s)
        alone = answer is None
        limits = part_of(tenant.limits, self.gateways) if alone else NO_LIMITS
        charge = self._local.admit(replace(tenant, limits=limits), self._now_s(), size)
        id_ = str(next(self._numbers)) if alone else asked.id
        shared = SharedCharge(charge.tenant, charge.at_s, charge.tokens, charge.joules, id_)
        self._open[id_] = shared
        if alone:
            self._begun.append(self._shown(shared))
            self._wake_soon()
        return shared

    def end(self, request: str, charge: RequestCharge, taken: Taken) -> None:
        """Note the end of a request, see `TenantLimiter.end`."""
        self._local.end(request, charge, self._now_s(), taken)
        if isinstance(charge, SharedCharge):
            self._open.pop(charge.id, None)
            self._end(EndedCharge(charge.id, request, taken))

    def settle(self, request: str, tenant: Tenant | None, taken: Taken) -> None:
        """Charge a request that has ended what it took, see `TenantLimiter.settle`."""
        self._local.settle(request, self._now_s(), taken)
        if tenant is not None and tenant.limits != NO_LIMITS:
            self._settled.append(SettledCharge(request, taken))
            self._wake_soon()

    def states(self, tenant: Tenant) -> Mapping[str, LimitState]:
        """Return the limits that a tenant has, as the coordinator gave them last."""
        known = self._states.get(tenant.name)
        return self._local.states(tenant, self._now_s()) if known is None else known

    def meet(self, coordinator: str) -> None:
        """Send a coordinator that has just started what was used before."""
        if coordinator != self._coordinator:
            self._is_known = False
            self._wake.set()

    async def run(self) -> None:
        """Send batches for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            has_news = self._asking or self._begun or self._ended or self._settled
            if has_news or not self._is_known:
                await self._send()

    async def _send(self) -> None:
        asking, self._asking = self._asking, []
        begun, self._begun = tuple(self._begun), []
        ended, self._ended = tuple(self._ended), []
        settled, self._settled = tuple(self._settled), []
        asked = tuple(each.asked for each in asking)
        batch = ChargeBatch(
            self._gateway, self._start, self._coordinator, asked, begun, ended, settled
        )
        try:
            answer = await self._ask(batch)
        except UnreachableError as error:
            _log.warning("tenant limits are kept by this gateway alone: %s", error)
            # It may have taken the batch before it failed, so it gets its end.
            self._begun += begun
            self._ended += [*ended, *(EndedCharge(a.id, "", NOTHING) for a in asked)]
            self._settled += settled
            answer = None
            self._wake_soon()
        for number, each in enumerate(asking):
            if each.answer.done():
                continue
            found = None if answer is None or answer.answers is None else answer.answers[number]
            if found is not None:
                self._states[each.asked.tenant.name] = found.states
            each.answer.set_result(found)

    async def _ask(self, batch: ChargeBatch) -> ChargeAnswer:
        """Send a batch; once more, with the usage, to a coordinator that is new."""
        if self._is_known:
            answer = await self._coordination.charge(batch)
            if answer.answers is not None:
                return answer
        # What has begun is part of the usage.
        answer = await self._coordination.charge(replace(batch, begun=(), usage=self._usage()))
        self._coordinator, self._is_known = answer.coordinator, True
        return answer

    def _usage(self) -> GatewayUsage:
        now_s = self._now_s()
        return GatewayUsage(
            {name: self._local.usage(name).so_far(now_s) for name in self._used},
            tuple(map(self._shown, self._open.values())),
        )

    def _shown(self, charge: SharedCharge) -> OpenCharge:
        age_s = self._now_s() - charge.at_s
        return OpenCharge(charge.id, charge.tenant, age_s, charge.tokens, charge.joules)

    def _end(self, ended: EndedCharge) -> None:
        self._ended.append(ended)
        self._wake_soon()

    def _wake_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._wake_now)

    def _wake_now(self) -> None:
        self._timer = None
        self._wake.set()


def part_of(limits: TenantLimits, gateways: int) -> TenantLimits:
    """Return the even part of limits, each at least 1."""
    parts = {}
    for limit in fields(limits):
        value = getattr(limits, limit.name)
        parts[limit.name] = None if value is None else math.ceil(value / gateways)
    return TenantLimits(**parts)
