"""How deep a replica can sleep, and when a depth pays.

A paused replica keeps everything and steps again at once. Each deeper sleep draws less and takes
longer to wake from: the weights move to the memory of the host (vLLM's sleep level 1), the process
ends, so that its GPUs have no context, or the whole node is switched off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from steppe.config import SleepSection
from steppe.frontier.pareto import Frontier

LOST_SHARE = 0.2
"""Part of a replica's lowest draw that is lost while it wakes: the others use it less well."""
LEAST_CONTEXT_W = 26.0
"""Draw of a CUDA context on one GPU, W: the lowest of 26 to 50 W (arXiv 2605.23918)."""


class SleepDepth(StrEnum):
    """How deep a replica sleeps, the shallowest first."""

    PAUSED = "paused"
    """It does not step; weights and cache stay on the GPU."""
    OFFLOADED = "offloaded"
    """Its weights are in the memory of the host; its cache is lost."""
    STOPPED = "stopped"
    """Its process has ended; its GPUs have no context."""
    OFF = "node_off"
    """Its node is switched off."""

    @property
    def rank(self) -> int:
        """Its place in the order of depths, from 0 for a pause."""
        return _RANKS[self]

    @property
    def is_deep(self) -> bool:
        """Whether it is deeper than a pause."""
        return self is not SleepDepth.PAUSED


_RANKS = {depth: rank for rank, depth in enumerate(SleepDepth)}


@dataclass(frozen=True, slots=True)
class SleepRung:
    """One depth of sleep of the replicas of a pool.

    Attributes:
        depth: The depth.
        asleep_w: Draw of a replica, W.
        wake_s: Time from there until it serves, s.
        sleep_s: Time to get there from a pause, s.
        source: `measured` or `stated`: where the times come from.
        node_w: What the replica's part of its node stops to draw beside the GPUs, W; 0 unless the
            node is off.
    """

    depth: SleepDepth
    asleep_w: float
    wake_s: float
    sleep_s: float
    source: str = "stated"
    node_w: float = 0.0

    @property
    def net_w(self) -> float:
        """Draw less what the node saves, W: may be negative."""
        return self.asleep_w - self.node_w


@dataclass(frozen=True)
class SleepLadder:
    """The depths that replicas of a pool may use.

    Attributes:
        paused_w: Draw of a paused replica, W.
        waking_w: Draw of a replica while it wakes, W.
        lost_w: Draw that a replica would have turned into tokens while it wakes, W: the energy
            that is used less well meanwhile.
        rungs: The depths below a pause, the shallowest first; at least one.
    """

    paused_w: float
    waking_w: float
    lost_w: float
    rungs: tuple[SleepRung, ...]

    @cached_property
    def by_depth(self) -> dict[SleepDepth, SleepRung]:
        """The rungs by their depth."""
        return {rung.depth: rung for rung in self.rungs}

    @property
    def deepest(self) -> SleepRung:
        """The deepest rung."""
        return self.rungs[-1]

    def cost_j(self, rung: SleepRung) -> float:
        """Return what it costs to go to a rung and to wake from it, J.

        Both ways draw without serving, and the time of the wake is lost for tokens.
        """
        return self.waking_w * (rung.sleep_s + rung.wake_s) + self.lost_w * rung.wake_s

    @cached_property
    def pays_after_s(self) -> tuple[float, ...]:
        """Time asleep after which each rung pays, s; infinite for one that never does.

        A replica should be on the rung whose draw over the time asleep and whose cost together are
        least. The time at which that changes to a rung is also when to go there if nothing is
        known of the time to come: then the energy is at most twice the least possible (Irani,
        Shukla and Gupta, "Online strategies for dynamic power management in systems with multiple
        power-saving states", 2003).
        """
        found: list[float] = []
        costs_j, draws_w, since_s = 0.0, self.paused_w, 0.0
        for rung in self._on_envelope():
            if rung is None:
                found.append(math.inf)
                continue
            cost_j = self.cost_j(rung)
            since_s = max(since_s, (cost_j - costs_j) / (draws_w - rung.net_w))
            costs_j, draws_w = cost_j, rung.net_w
            found.append(since_s)
        return tuple(found)

    def _on_envelope(self) -> list[SleepRung | None]:
        """Return the rungs, None for each that is never the cheapest."""
        kept: list[int] = []
        lines = [(0.0, self.paused_w), *((self.cost_j(r), r.net_w) for r in self.rungs)]
        for number, (cost_j, draw_w) in enumerate(lines):
            while (
                len(kept) > 1
                and lines[kept[-1]] >= (cost_j, draw_w)
                and (lines[kept[-1]][1] >= draw_w)
            ):
                kept.pop()
            if number and draw_w >= lines[kept[-1]][1]:
                continue
            while len(kept) > 1 and _crossing(lines[kept[-2]], (cost_j, draw_w)) <= _crossing(
                lines[kept[-2]], lines[kept[-1]]
            ):
                kept.pop()
            kept.append(number)
        return [rung if n + 1 in kept else None for n, rung in enumerate(self.rungs)]


@dataclass(frozen=True, slots=True)
class StatedTimes:
    """Times of a depth that are used until it is measured.

    Attributes:
        wake_s: Time until the replica serves again, s.
        sleep_s: Time to get there, s.
    """

    wake_s: float
    sleep_s: float


STATED = {
    SleepDepth.OFFLOADED: StatedTimes(6.0, 6.0),
    SleepDepth.STOPPED: StatedTimes(60.0, 5.0),
    SleepDepth.OFF: StatedTimes(300.0, 60.0),
}
"""5.9 s to sleep and 5.4 s to wake for 235B on 4 GPUs (vLLM blog, "Zero-Reload Model Switching",
2025); the others are rounded guesses: an engine of 70B loads and compiles in one to two minutes, a
server boots in three to ten."""


def rungs_of(
    sections: Sequence[SleepSection],
    gpus: int,
    paused_w: float,
    *,
    bare_w: float | None = None,
    node_w: float = 0.0,
) -> tuple[SleepRung, ...]:
    """Return the depths that `fleet.sleep` of a configuration allows.

    Args:
        sections: The section of each depth.
        gpus: GPUs of a replica.
        paused_w: Draw of a paused replica, W.
        bare_w: Draw of a GPU without a context, W; None if it is unknown.
        node_w: A replica's part of what a node draws beside its GPUs, W.
    """
    stopped_w = max(0.0, paused_w - gpus * LEAST_CONTEXT_W) if bare_w is None else gpus * bare_w
    usual_w = {SleepDepth.OFFLOADED: paused_w, SleepDepth.STOPPED: stopped_w, SleepDepth.OFF: 0.0}
    rungs = []
    for section in sections:
        depth = SleepDepth(section.kind)
        times = STATED[depth]
        rungs.append(
            SleepRung(
                depth,
                usual_w[depth] if section.gpu_w is None else gpus * section.gpu_w,
                times.wake_s if section.wake_s is None else section.wake_s,
                times.sleep_s if section.sleep_s is None else section.sleep_s,
                node_w=node_w if depth is SleepDepth.OFF else 0.0,
            )
        )
    return tuple(rungs)


def ladder_of(rungs: tuple[SleepRung, ...], frontier: Frontier) -> SleepLadder | None:
    """Return the depths of a pool with what they cost; None if there are none below a pause."""
    if not rungs:
        return None
    lost_w = LOST_SHARE * frontier.floor.draw_w
    return SleepLadder(frontier.asleep_w, frontier.idle_w, lost_w, rungs)


def _crossing(shallow: tuple[float, float], deep: tuple[float, float]) -> float:
    """Return the time at which two lines of `cost + draw x time` cross, s."""
    return (deep[0] - shallow[0]) / (shallow[1] - deep[1])
