"""The coordinator of several gateways: it divides places, and keeps the limits of tenants."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace

from steppe.gateway.sharing.messages import (
    AskedCharge,
    ChargeAnswer,
    ChargeBatch,
    Denied,
    GatewayReport,
    GatewayShare,
    GatewayUsage,
    Granted,
    ModelTotals,
    OpenCharge,
)
from steppe.gateway.sharing.places import divide
from steppe.tenants.limiter import Taken, TenantLimiter
from steppe.tenants.tenant import NO_LIMITS
from steppe.tenants.usage import LimitReachedError, RequestCharge

SILENT_S = 3.0
"""A gateway that has not reported for so long holds no places any more, s: it has died, or hangs.
One that only was slow reports what it has outstanding."""
SETTLE_S = 1.0
"""A coordinator grants nothing for so long after its start, s: meanwhile all gateways report what
was used before."""
LOST_S = 30.0
"""The open requests of a gateway that has been silent for so long have ended, s."""


class Coordinator:
    """Shares places and limits among gateways; not safe from other threads."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Begin without gateways; `now_s` reads the monotonic clock, s."""
        self._now_s, self._began_s = now_s, now_s()
        self.start = uuid.uuid4().hex
        self._reports: dict[str, tuple[float, GatewayReport]] = {}
        self._limiter = TenantLimiter()
        self._seen_s: dict[str, float] = {}
        self._starts: dict[str, str] = {}  # of the gateways whose usage is known
        self._charges: dict[str, dict[str, RequestCharge]] = {}

    # Places

    def exchange(self, report: GatewayReport) -> GatewayShare:
        """Take a report; return the gateway's share."""
        now_s = self._see(report.gateway)
        self._reports = {
            name: (at_s, known)
            for name, (at_s, known) in self._reports.items()
            if now_s - at_s < SILENT_S
        }
        others = [known for name, (_, known) in self._reports.items() if name != report.gateway]
        places = divide(report, others)
        held = {
            name: replace(replica, held=max(places[name], replica.outstanding))
            for name, replica in report.replicas.items()
        }
        self._reports[report.gateway] = now_s, replace(report, replicas=held)
        return GatewayShare(self.start, places, tuple(sorted(self._reports)), _totals(others))

    # Limits

    def charge(self, batch: ChargeBatch) -> ChargeAnswer:
        """Take a batch: what has ended first, then what is to begin, in order."""
        now_s = self._see(batch.gateway)
        if batch.usage is not None:
            self._begin(batch.gateway, batch.start, batch.usage, now_s)
        elif not self._knows(batch):
            return ChargeAnswer(self.start, None)
        charges = self._charges[batch.gateway]
        for each in batch.begun:
            charges[each.id] = self._reopen(each, now_s, is_counted=False)
        for ended in batch.ended:
            charge = charges.pop(ended.id, None)
            if charge is not None:
                self._limiter.end(_key(batch, ended.request), charge, now_s, ended.taken)
        for settled in batch.settled:
            self._limiter.settle(_key(batch, settled.request), now_s, settled.taken)
        answers = tuple(self._admit(asked, charges, now_s) for asked in batch.asked)
        return ChargeAnswer(self.start, answers)

    def _see(self, gateway: str) -> float:
        """Note that a gateway lives, and forget what others had that do not; return the time."""
        now_s = self._seen_s[gateway] = self._now_s()
        for name in [name for name, at_s in self._seen_s.items() if now_s - at_s > LOST_S]:
            del self._seen_s[name]
            self._end_all(name, now_s)
        return now_s

    def _knows(self, batch: ChargeBatch) -> bool:
        is_same = self._starts.get(batch.gateway) == batch.start
        return is_same and batch.coordinator == self.start and batch.gateway in self._charges

    def _end_all(self, gateway: str, now_s: float) -> None:
        """End the requests of a gateway that has died; what they took keeps its estimate."""
        for charge in self._charges.pop(gateway, {}).values():
            self._limiter.end("", charge, now_s, Taken())

    def _begin(self, gateway: str, start: str, usage: GatewayUsage, now_s: float) -> None:
        """Take what was used before at a gateway that is new here, or that has restarted."""
        self._end_all(gateway, now_s)
        is_known = self._starts.get(gateway) == start
        self._starts[gateway], self._charges[gateway] = start, {}
        if not is_known:
            for tenant, used in usage.used.items():
                self._limiter.usage(tenant).add(used, now_s)
        for each in usage.open:
            self._charges[gateway][each.id] = self._reopen(each, now_s, is_counted=True)

    def _reopen(self, open_: OpenCharge, now_s: float, *, is_counted: bool) -> RequestCharge:
        """Note a request that is open; return its charge."""
        usage, at_s = self._limiter.usage(open_.tenant), now_s - open_.age_s
        if not is_counted:
            return usage.admit(open_.tenant, NO_LIMITS, at_s, open_.tokens, open_.joules)
        usage.reopen()
        return RequestCharge(open_.tenant, at_s, open_.tokens, open_.joules)

    def _admit(
        self,
        asked: AskedCharge,
        charges: dict[str, RequestCharge],
        now_s: float,
    ) -> Granted | Denied | None:
        if now_s - self._began_s < SETTLE_S:
            return None
        tenant = asked.tenant
        try:
            charge = self._limiter.admit(tenant, now_s, asked.size)
        except LimitReachedError as error:
            states = self._limiter.states(tenant, now_s)
            return Denied(error.limit, str(error), error.retry_after_s, states)
        charges[asked.id] = charge
        return Granted(self._limiter.states(tenant, now_s))


def _key(batch: ChargeBatch, request: str) -> str:
    """Return the name of a request: two gateways may have one with the same id."""
    return f"{batch.gateway}/{request}" if request else ""


def _totals(reports: Iterable[GatewayReport]) -> dict[str, ModelTotals]:
    found: dict[str, ModelTotals] = {}
    for report in reports:
        for model, totals in report.models.items():
            found[model] = found.get(model, ModelTotals()).plus(totals)
    return found
