"""Logs each replica once that is quarantined, and looks for other GPUs for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.report.records import TickRecord

_log = logging.getLogger(__name__)


class QuarantineLog:
    """What is known of replicas that are not started again.

    Attributes:
        known: Replicas whose faults were logged, with these.
        no_replica: Why none of the fleet is left; empty while one is, or may come.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.known: set[tuple[str, str]] = set()
        self.no_replica = ""

    def note(self, ticks: Sequence[TickRecord], actors: FleetActors) -> None:
        """Note the replicas of new ticks."""
        for replica in (r for tick in ticks for r in tick.replicas if r.fault):
            if (replica.id, replica.fault) not in self.known:
                self.known.add((replica.id, replica.fault))
                _log.error("%s is quarantined: %s", replica.id, replica.fault)
                lines = actors.last_log_lines(replica.id)
                if lines:
                    _log.error("last lines of the log of %s:\n%s", replica.id, lines)
                actors.seek_other_gpus(replica.id)
        replicas = ticks[-1].replicas if ticks else ()
        if replicas and all(r.fault for r in replicas) and not actors.has_unplaced:
            self.no_replica = f"every replica is quarantined; {replicas[-1].fault}"
