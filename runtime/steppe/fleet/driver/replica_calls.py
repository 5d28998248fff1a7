"""What a sweep asks of single replicas, see `steppe.run.fleet_subject.FleetSubject`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from steppe.errors import ReplicaError
from steppe.fleet.cluster import call_result
from steppe.fleet.messages import Placement, ReplicaStatus, ReplicaTotals, SetLimits

CALL_TIMEOUT_S = 60.0
"""Longest wait for a replica or its node, s."""


@dataclass(frozen=True, slots=True)
class ReplicaCalls:
    """Calls replicas and their nodes, and waits for the answers.

    Attributes:
        placements: Where the replicas run, by name; it changes with the fleet.
    """

    placements: Mapping[str, Placement]

    def set_point(self, replica: str, clock_mhz: int | None, batch_limit: int) -> None:
        """Set the limits of a replica and wait until its node has them."""
        limits = SetLimits(replica, clock_mhz, batch_limit, "awake")
        call = self._placement(replica).node.apply.remote([limits], time.monotonic())
        call_result(call, replica, CALL_TIMEOUT_S)

    def reading(self, replica: str) -> ReplicaTotals:
        """Return running totals of a replica."""
        call = self._placement(replica).node.reading.remote(replica)
        reading: ReplicaTotals = call_result(call, replica, CALL_TIMEOUT_S)
        return reading

    def set_frozen(self, replica: str, frozen: bool) -> None:
        """Freeze or thaw a replica and wait until that is done."""
        actor = self._placement(replica).actor
        call_result((actor.freeze if frozen else actor.thaw).remote(), replica, CALL_TIMEOUT_S)

    def url(self, replica: str) -> str:
        """Return where a replica's own HTTP app listens."""
        call = self._placement(replica).actor.status.remote()
        status: ReplicaStatus = call_result(call, replica, CALL_TIMEOUT_S)
        return status.url

    def _placement(self, replica: str) -> Placement:
        if replica not in self.placements:
            raise ReplicaError(f"{replica}: its node is lost")
        return self.placements[replica]
