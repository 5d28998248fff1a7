"""Collects what nodes metered and what the gateway finished, straight from their actors.

It lives in the process that drives the run, so neither a controller nor a node that dies takes
a joule or a request out of the books: a node keeps each window until it is acknowledged here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from steppe.energy.attribution import UJ_PER_J
from steppe.fleet.cluster import error_line
from steppe.fleet.driver.accounts import Accounts
from steppe.fleet.messages import NodeReport
from steppe.gateway.server import FinishedRequest
from steppe.report.records import RequestRecord

PATIENCE_S = 5.0
"""Longest wait for answers, s; what comes later is asked for again."""
FORGET_S = 3600.0
"""How long the energy of a request that has no end yet is kept at least, s: one that is frozen in
the middle of its answer gets none, and its client may wait long."""
SAME_START_S = 0.1
"""What two of its requests say of when a gateway started differs by less, s: it is rounded."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EnergyTotals:
    """Totals of a run, s and J, and the worst quality of its joules.

    `gateway_restarts` tells how often its gateway was seen to have started again.
    """

    duration_s: float
    energy_source: str
    energy_j: float
    idle_j: float
    transition_j: float
    error_j: float
    gateway_restarts: int


class Bookkeeper:
    """Keeps the accounts of one run."""

    def __init__(self, door: Any, energy_source: str, began_epoch_s: float) -> None:
        """Open the books.

        Args:
            door: Ray handle of the gateway's actor.
            energy_source: How well the meters find joules while all goes well.
            began_epoch_s: When the run began, s since the Unix epoch.
        """
        self._gateway = door
        self._accounts = Accounts(energy_source, began_epoch_s)
        self._numbers: dict[str, int] = {}
        self._finished: list[Any] = []
        self._forgot_s = 0.0
        self._gateway_epoch_s: float | None = None
        self._gateway_restarts = 0

    def skip(self, nodes: Mapping[str, Any]) -> None:
        """Leave out of the books what happened until now."""
        closing = {node: actor.report.remote(0, True) for node, actor in nodes.items()}
        for node, call in closing.items():
            reports: list[NodeReport] = ray.get(call, timeout=PATIENCE_S)
            self._numbers[node] = reports[-1].number
        ray.get(self._gateway.drain.remote(), timeout=PATIENCE_S)

    def collect(self, nodes: Mapping[str, Any], *, closing: bool = False) -> None:
        """Enter what is new in the books.

        Args:
            nodes: Ray handles of the node actors, by Ray's id of the node.
            closing: Close the windows that are open, and enter the requests that have no end
                as cancelled, with the tokens and joules that they had: the last call.
        """
        calls = {}
        for node, actor in nodes.items():
            if closing:
                ray.wait([actor.report.remote(0, True)], timeout=PATIENCE_S)
            calls[actor.settle.remote(self._numbers.get(node, 0))] = node
        # What the gateway hands over it forgets, so an answer that is late is still taken.
        self._finished.append(self._gateway.drain.remote(closing))
        done, _ = ray.wait(
            [*calls, *self._finished],
            num_returns=len(calls) + len(self._finished),
            timeout=PATIENCE_S,
        )
        for call in (call for call in done if call in calls):
            self._take_reports(call, calls[call])
        # What came with these windows may have ended after them.
        for call in (call for call in done if call not in calls):
            self._finished.remove(call)
            self._take_finished(call)

    def close_tick(self, now_s: float) -> list[RequestRecord]:
        """Return the requests whose energy is complete, `now_s` since the run began."""
        if now_s - self._forgot_s >= FORGET_S:
            self._forgot_s = now_s
            self._accounts.forget()
        return self._accounts.close_tick(now_s)

    def close(self, duration_s: float) -> tuple[EnergyTotals, list[RequestRecord]]:
        """Return the totals of a run of `duration_s`, and the requests not returned yet."""
        requests = self._accounts.close()
        accounts = self._accounts
        books = EnergyTotals(
            duration_s=duration_s,
            energy_source=accounts.energy_source,
            energy_j=accounts.energy_uj / UJ_PER_J,
            idle_j=accounts.idle_uj / UJ_PER_J,
            transition_j=accounts.transition_uj / UJ_PER_J,
            error_j=accounts.error_j,
            gateway_restarts=self._gateway_restarts,
        )
        return books, requests

    def _take_reports(self, call: Any, node: str) -> None:
        try:
            reports: list[NodeReport] = ray.get(call)
        except ray.exceptions.RayError as error:
            _log.warning("node %s: no windows: %s", node[:8], error_line(error))
            return
        seen = self._numbers.get(node, 0)
        for report in reports:
            if report.number > seen:
                self._accounts.add(report.replicas)
                self._numbers[node] = report.number

    def _take_finished(self, call: Any) -> None:
        try:
            finished: list[FinishedRequest] = ray.get(call)
        except ray.exceptions.RayError as error:
            _log.warning("gateway: no requests: %s", error_line(error))
            return
        self._accounts.finish(finished)
        for request in finished:
            self._note_gateway(request.arrival_epoch_s - request.arrival_s)

    def _note_gateway(self, started_epoch_s: float) -> None:
        """Note when the gateway started that had a request; another time is that of another one."""
        before_s, self._gateway_epoch_s = self._gateway_epoch_s, started_epoch_s
        if before_s is not None and abs(started_epoch_s - before_s) > SAME_START_S:
            self._gateway_restarts += 1
