"""Which nodes are to be off: those whose replicas all sleep at that depth."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from steppe.control.sleep_ladder import SleepDepth
from steppe.fleet.controller.replica_handle import ReplicaHandle

REFUSED_S = 600.0
"""Time until a node may be off again whose command has failed, s."""


@dataclass(slots=True)
class NodePower:
    """The nodes that are to be off, and those that must not be.

    Attributes:
        always_on: Nodes that are never switched off, such as that of the driver, by Ray's id.
    """

    always_on: Collection[str] = ()
    _refused_until_s: dict[str, float] = field(default_factory=dict)

    def depth_for(self, handle: ReplicaHandle, depth: SleepDepth, now_s: float) -> SleepDepth:
        """Return the depth that a replica may go to: on a node that stays on, it is stopped."""
        node = handle.placement.node_id
        stays_on = node in self.always_on or now_s < self._refused_until_s.get(node, 0.0)
        return SleepDepth.STOPPED if depth is SleepDepth.OFF and stays_on else depth

    def refuse(self, node: str, handles: Iterable[ReplicaHandle], now_s: float) -> None:
        """Leave a node on whose command has failed; its replicas are stopped."""
        self._refused_until_s[node] = now_s + REFUSED_S
        for handle in on_node(node, handles):
            if handle.is_deep and handle.depth is SleepDepth.OFF:
                handle.sleep.depth = SleepDepth.STOPPED

    def off(self, handles: Mapping[str, ReplicaHandle]) -> frozenset[str]:
        """Return the nodes that are to be off, by Ray's id."""
        nodes = {handle.placement.node_id for handle in handles.values()}
        return frozenset(
            node for node in nodes if all(map(_is_off, on_node(node, handles.values())))
        )


def on_node(node: str, handles: Iterable[ReplicaHandle]) -> list[ReplicaHandle]:
    """Return the replicas of a node."""
    return [handle for handle in handles if handle.placement.node_id == node]


def _is_off(handle: ReplicaHandle) -> bool:
    return handle.is_deep and handle.depth is SleepDepth.OFF and not handle.sleep.is_leaving
