"""The free GPUs of the machines at the begin of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from steppe.config import FleetSection
from steppe.fleet.cluster import Machine, free_gpus
from steppe.fleet.driver.room import room_of

FREED_S = 5.0
"""Longest wait for GPUs that an earlier run holds until its processes have ended, s."""
POLL_S = 0.5


def soon_free(fleet: FleetSection, machines: Sequence[Machine]) -> dict[str, int]:
    """Return the free GPUs of machines; those of a run that has just ended are waited for."""
    each, deadline_s = fleet.gpus_per_replica, time.monotonic() + FREED_S
    while True:
        found = free_gpus()
        free = {machine.id: found.get(machine.id, machine.gpus) for machine in machines}
        room, whole = room_of(free, each), room_of({m.id: m.gpus for m in machines}, each)
        least = whole if fleet.replicas == "all" else min(fleet.replicas, whole)
        if room >= least or time.monotonic() >= deadline_s:
            return free
        time.sleep(POLL_S)
