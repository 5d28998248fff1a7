"""Size and kind of a simulated fleet, and its place among several pools."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from steppe.config import SiteSection
from steppe.sim.engine.energy import NOTHING_BESIDE, Beside
from steppe.sim.engine.kind import ReplicaKind
from steppe.sim.gateway import GatewayLimits


@dataclass(frozen=True, slots=True)
class PoolPlace:
    """Where the replicas of a pool stand in a fleet of several pools.

    Attributes:
        pool: Name of the pool; empty if there is only one.
        first: Index of its first replica among those of all pools.
        replicas: Replicas of all pools; None if there is only one pool.
        first_node: Index of its first node.
        gpus: GPUs of each of its replicas.
        nodes: Name of the node of each replica of all pools; empty if there is only one pool.
        load_s: Time to load the model on GPUs of another pool, s.
    """

    pool: str = ""
    first: int = 0
    replicas: int | None = None
    first_node: int = 0
    gpus: int = 1
    nodes: tuple[str, ...] = ()
    load_s: float = 60.0


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Size and kind of a simulated fleet.

    Attributes:
        replicas: Number of replicas.
        kind: What all replicas have in common.
        gateway: How many requests may wait, and for how long.
        clock_latency_s: Time from a new clock limit to the new clock, s.
        replicas_per_node: Replicas of one node, which is switched off as a whole.
        node_rest_w: Draw of a node that is on, beside its GPUs, W.
        site: What joules enclose, and what the site draws beside its nodes.
        place: Where it stands in a fleet of several pools.
    """

    replicas: int
    kind: ReplicaKind
    gateway: GatewayLimits
    clock_latency_s: float
    replicas_per_node: int = 1
    node_rest_w: float = 0.0
    site: SiteSection = field(default_factory=SiteSection)
    place: PoolPlace = field(default_factory=PoolPlace)

    def beside(self, nodes: int, replicas: float) -> Beside:
        """Return what each replica that is on is charged beside its GPUs.

        Args:
            nodes: Nodes that are on.
            replicas: Replicas on them, those with more or fewer GPUs counted in proportion.
        """
        boundary, site = self.site.boundary, self.site
        if boundary == "gpu" or not replicas:
            return NOTHING_BESIDE
        nodes_w = self.node_rest_w * nodes
        if boundary == "node":
            return Beside(nodes_w / replicas)
        return Beside((nodes_w * site.pue + site.overhead_w) / replicas, site.pue - 1.0)

    def node(self, index: int) -> str:
        """Return the name of the node of a replica, by its index among those of all pools."""
        of_pool = index - self.place.first
        return f"node-{self.place.first_node + of_pool // self.replicas_per_node + 1}"

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return math.ceil(self.replicas / self.replicas_per_node)
