"""Which replicas give their streams away: those that cannot step, while others have room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from steppe.control.state import ReplicaState
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.gateway.server import Route


def to_hand_over(
    handles: Iterable[ReplicaHandle], routes: Iterable[Route], outstanding: Mapping[str, int]
) -> list[str]:
    """Return the replicas whose streams go on elsewhere from now on.

    A replica that is paused, or whose engine is stopped, keeps its streams as long as the batches
    of the other replicas of its model are full: to compute a prompt again costs energy, and there
    it would only wait again.

    Args:
        handles: All replicas.
        routes: Those that serve.
        outstanding: Outstanding requests of each.
    """
    handles = tuple(handles)
    awake = {route.replica for route in routes}
    room: dict[str, int] = {}
    for handle in handles:
        if handle.name in awake:
            left = handle.batch_limit - outstanding.get(handle.name, 0)
            model = handle.placement.model
            room[model] = room.get(model, 0) + max(0, left)
    leaving = []
    for handle in handles:
        count, model = outstanding.get(handle.name, 0), handle.placement.model
        if count and _cannot_step(handle) and count <= room.get(model, 0):
            room[model] -= count
            leaving.append(handle.name)
    return leaving


def _cannot_step(handle: ReplicaHandle) -> bool:
    is_stopped = handle.report is not None and handle.report.stopped
    return handle.state == ReplicaState.ASLEEP or is_stopped
