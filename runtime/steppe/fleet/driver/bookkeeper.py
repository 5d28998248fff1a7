"""Collects metered windows from the nodes and finished requests from the gateways.

It runs in the driver's process, so that no joule and no request is lost with a controller or a node
actor that dies: nodes and gateways keep each window and request until it is
acknowledged here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from steppe.energy.attribution import UJ_PER_J
from steppe.fleet.cluster import call_result, error_line
from steppe.fleet.driver.accounts import Accounts
from steppe.fleet.messages import Drained, EndedRequests, NodeReport
from steppe.gateway.server import RequestEnergy
from steppe.ledger.booking import BookedRequest, BookedTotals
from steppe.models.identity import ModelIdentity
from steppe.report.records import RequestRecord

LONG_TIMEOUT_S = 60.0
"""Longest wait for the actors at the begin and at the end of a run, s: there is no later call."""
TIMEOUT_S = 5.0
"""Longest wait for the actors, s; later results are taken by the next call."""
UNCLAIMED_EVERY_S = 30.0
"""Time between two searches for energy that no request claims, s."""
UNCLAIMED_ALARM = 0.001
"""Share of the energy above which unclaimed energy is an alarm."""
SAME_START_S = 0.1
"""Start times of one gateway, computed from two requests, differ by less, s: they are rounded."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EnergyTotals:
    """Totals of a run.

    Attributes:
        duration_s: Its length, s.
        energy_source: The worst quality of its joules.
        energy_j: All energy of its GPUs, J.
        idle_j: Energy without work, J.
        transition_j: Energy of starts, J.
        error_j: Bound of the error of `energy_j`, J.
        neighbour_j: Energy of other users of shared GPUs, beside `energy_j`, J.
        unclaimed_j: Energy of steps that no known request claims, J.
        gateway_restarts: How often a gateway has restarted, as far as requests show it.
    """

    duration_s: float
    energy_source: str
    energy_j: float
    idle_j: float
    transition_j: float
    error_j: float
    unclaimed_j: float
    gateway_restarts: int
    neighbour_j: float = 0.0


@dataclass(frozen=True, slots=True)
class WrittenBooks:
    """What a bookkeeper has written down.

    Attributes:
        accounts: The accounts.
        numbers: The last window of each node in them, by Ray's id of the node.
        drained: The requests of each gateway in them, by its name.
        gateway_epoch_s: When each gateway started, s since the Unix epoch.
        gateway_restarts: How often gateways have restarted.
        dropped_s: When unclaimed energy was last searched, s since the run began.
        has_alarmed: Whether there was an alarm about it.
    """

    accounts: Accounts
    numbers: Mapping[str, int]
    drained: Mapping[str, Drained]
    gateway_epoch_s: Mapping[str, float]
    gateway_restarts: int
    dropped_s: float
    has_alarmed: bool


class Bookkeeper:
    """Keeps the accounts of one run."""

    def __init__(
        self,
        gateways: Mapping[str, Any],
        energy_source: str,
        began_epoch_s: float,
        boundary: str = "gpu",
        models: Mapping[str, ModelIdentity] | None = None,
    ) -> None:
        """Open the books.

        Args:
            gateways: Ray handles of the gateways, by name; they may change.
            energy_source: Worst energy quality while no meter fails.
            began_epoch_s: When the run began, s since the Unix epoch.
            boundary: What joules enclose: `gpu`, `node` or `site`.
            models: What is known of each model, for a ledger; None without one.
        """
        self._gateways = gateways
        self._accounts = Accounts(energy_source, began_epoch_s, boundary, models=models)
        self._numbers: dict[str, int] = {}
        self._drained: dict[str, Drained] = {}
        self._dropped_s, self._has_alarmed = 0.0, False
        self._open: list[Any] = []
        self._gateway_epoch_s: dict[str, float] = {}
        self._gateway_restarts = 0

    def skip(self, nodes: Mapping[str, Any]) -> None:
        """Leave what happened until now out of the accounts.

        Raises:
            ReplicaError: An actor does not answer.
        """
        closing = {node: actor.report.remote(0, True) for node, actor in nodes.items()}
        for node, call in closing.items():
            reports: list[NodeReport] = call_result(call, f"node {node[:8]}", LONG_TIMEOUT_S)
            self._numbers[node] = reports[-1].number
        calls = {name: g.drain.remote(Drained()) for name, g in self._gateways.items()}
        for name, call in calls.items():
            ended: EndedRequests = call_result(call, "gateway", LONG_TIMEOUT_S)
            self._drained[name] = ended.after

    def collect(self, nodes: Mapping[str, Any], *, closing: bool = False) -> None:
        """Add what is new to the accounts.

        Args:
            nodes: Ray handles of the node actors, by Ray's id of the node.
            closing: Whether this is the last call: it closes the open windows, and adds the
                unfinished requests as cancelled, with their tokens and energy so far.
        """
        timeout_s = LONG_TIMEOUT_S if closing else TIMEOUT_S
        calls = {}
        for node, actor in nodes.items():
            if closing:
                ray.wait([actor.report.remote(0, True)], timeout=timeout_s)
            calls[actor.settle.remote(self._numbers.get(node, 0))] = node
        finished = {
            gateway.drain.remote(self._drained.get(name, Drained()), closing): name
            for name, gateway in self._gateways.items()
        }
        # A result that comes too late is returned again by the next call.
        every = [*calls, *finished]
        done, _ = ray.wait(every, num_returns=len(every), timeout=timeout_s)
        for call in (call for call in done if call in calls):
            self._add_reports(call, calls[call])
        # After the reports, for these requests may have ended after the windows.
        for call in (call for call in done if call not in calls):
            self._add_finished(call, finished[call])

    @property
    def began_epoch_s(self) -> float:
        """When the run began, s since the Unix epoch."""
        return self._accounts.began_epoch_s

    def books(self) -> WrittenBooks:
        """Return the books as they are, for another bookkeeper that goes on with them."""
        return WrittenBooks(
            self._accounts,
            self._numbers,
            self._drained,
            self._gateway_epoch_s,
            self._gateway_restarts,
            self._dropped_s,
            self._has_alarmed,
        )

    def go_on(self, books: WrittenBooks) -> None:
        """Go on with the books of another bookkeeper."""
        self._accounts, self._numbers = books.accounts, dict(books.numbers)
        self._drained = dict(books.drained)
        self._gateway_epoch_s = dict(books.gateway_epoch_s)
        self._gateway_restarts = books.gateway_restarts
        self._dropped_s, self._has_alarmed = books.dropped_s, books.has_alarmed

    def lend(self, replica: str) -> None:
        """Note that the requests of a replica are those of a measurement from now on."""
        self._accounts.lent.add(replica)

    def take_back(self, replica: str) -> None:
        """Note that new requests of a replica are those of clients again."""
        self._accounts.lent.discard(replica)

    def energy_so_far(self) -> list[RequestEnergy]:
        """Return the energy of requests whose answers wait for it, see `Accounts`."""
        return self._accounts.energy_so_far()

    def close_tick(self, now_s: float) -> list[RequestRecord]:
        """Return the requests whose energy is complete, `now_s` since the run began."""
        if now_s - self._dropped_s >= UNCLAIMED_EVERY_S:
            self._drop_unclaimed(now_s)
        return self._accounts.close_tick(now_s)

    def _drop_unclaimed(self, now_s: float) -> None:
        """Drop what no request claims, as soon as all gateways have listed their open requests."""
        if not self._open:
            self._open = [gateway.open_ids.remote() for gateway in self._gateways.values()]
        _, late = ray.wait(self._open, num_returns=len(self._open), timeout=0)
        if late:
            return
        calls, self._open, self._dropped_s = self._open, [], now_s
        try:
            self._accounts.drop_unclaimed(id_ for call in calls for id_ in ray.get(call))
        except ray.exceptions.RayError as error:
            _log.warning("gateway: no open requests: %s", error_line(error))
            return
        self._check_unclaimed()
        for gateway in self._gateways.values():
            gateway.set_unclaimed.remote(self._accounts.unclaimed_uj / UJ_PER_J)

    def _check_unclaimed(self) -> None:
        """Warn once when more energy is unclaimed than `UNCLAIMED_ALARM`."""
        accounts = self._accounts
        share = accounts.unclaimed_uj / accounts.energy_uj if accounts.energy_uj else 0.0
        if share > UNCLAIMED_ALARM and not self._has_alarmed:
            self._has_alarmed = True
            joules = accounts.unclaimed_uj / UJ_PER_J
            _log.warning(
                "%.4g J, %.2f %% of the energy, are claimed by no request: requests bypass the "
                "gateway, or it was restarted",
                joules,
                100 * share,
            )

    def close(self, duration_s: float) -> tuple[EnergyTotals, list[RequestRecord]]:
        """Return the totals of a run of `duration_s`, and the requests not returned yet."""
        requests = self._accounts.close()
        self._check_unclaimed()
        return self.totals(duration_s), requests

    def take_booked(self) -> list[BookedRequest]:
        """Return the requests that were recorded since the last call, for a ledger."""
        return self._accounts.take_booked()

    @property
    def counted(self) -> BookedTotals:
        """All that was counted so far, for a ledger."""
        accounts = self._accounts
        return BookedTotals(
            meters=accounts.meters_uj,
            idle_uj=accounts.idle_uj,
            transition_uj=accounts.transition_uj,
            unclaimed_uj=accounts.unclaimed_uj,
        )

    def totals(self, duration_s: float) -> EnergyTotals:
        """Return the totals so far, after `duration_s`; energy of open requests is in no part."""
        accounts = self._accounts
        return EnergyTotals(
            duration_s=duration_s,
            energy_source=accounts.energy_source,
            energy_j=accounts.energy_uj / UJ_PER_J,
            idle_j=accounts.idle_uj / UJ_PER_J,
            transition_j=accounts.transition_uj / UJ_PER_J,
            error_j=accounts.error_j,
            unclaimed_j=accounts.unclaimed_uj / UJ_PER_J,
            gateway_restarts=self._gateway_restarts,
            neighbour_j=accounts.neighbour_uj / UJ_PER_J,
        )

    def _add_reports(self, call: Any, node: str) -> None:
        try:
            reports: list[NodeReport] = ray.get(call)
        except ray.exceptions.RayError as error:
            _log.warning("node %s: no windows: %s", node[:8], error_line(error))
            return
        last = self._numbers.get(node, 0)
        for report in reports:
            if report.number > last:
                self._accounts.add(report.replicas)
                self._numbers[node] = report.number

    def _add_finished(self, call: Any, gateway: str) -> None:
        try:
            ended: EndedRequests = ray.get(call)
        except ray.exceptions.RayError as error:
            _log.warning("%s: no requests: %s", gateway, error_line(error))
            return
        finished = ended.news(self._drained.get(gateway, Drained()))
        self._drained[gateway] = ended.after
        self._accounts.finish(finished)
        for request in finished:
            self._note_start(gateway, request.arrival_epoch_s - request.arrival_s)

    def _note_start(self, gateway: str, started_epoch_s: float) -> None:
        """Count a restart when a request shows another start time of its gateway."""
        before_s = self._gateway_epoch_s.get(gateway)
        self._gateway_epoch_s[gateway] = started_epoch_s
        if before_s is not None and abs(started_epoch_s - before_s) > SAME_START_S:
            self._gateway_restarts += 1
