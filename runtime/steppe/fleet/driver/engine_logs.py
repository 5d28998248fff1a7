"""Collects the logs of the engines from their nodes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import ray

from steppe.fleet.engine_log import LogPart
from steppe.fleet.messages import Placement

PERIOD_S = 5.0
"""Time between two readings, s."""
TIMEOUT_S = 2.0
"""Longest wait for the nodes, s; a part that comes later is requested again."""


class EngineLogs:
    """Reads the logs.

    Attributes:
        ends: How far the log of each engine has been read, by replica and Ray's id of the node.
    """

    def __init__(self) -> None:
        """Begin at the begin of every log."""
        self.ends: dict[tuple[str, str], int] = {}
        self._read_s = float("-inf")

    def collect_if_due(self, placements: dict[str, Placement], now_s: float) -> dict[str, bytes]:
        """Do as `collect`, at most once per `PERIOD_S`; `now_s` is monotonic time, s."""
        if now_s - self._read_s < PERIOD_S:
            return {}
        self._read_s = now_s
        return self.collect(placements)

    def collect(self, placements: dict[str, Placement]) -> dict[str, bytes]:
        """Return what is new in each log, by replica; logs without news are left out."""
        begins: defaultdict[str, dict[str, int]] = defaultdict(dict)
        nodes = {}
        for name, place in placements.items():
            begins[place.node_id][name] = self.ends.get((name, place.node_id), 0)
            nodes[place.node_id] = place.node
        calls = {nodes[id_].engine_logs.remote(of_node): id_ for id_, of_node in begins.items()}
        if not calls:
            return {}
        done, _ = ray.wait([*calls], num_returns=len(calls), timeout=TIMEOUT_S)
        found: dict[str, bytes] = {}
        for call in done:
            for name, part in self._parts(call).items():
                self.ends[name, calls[call]] = part.end
                found |= {name: part.text} if part.text else {}
        return found

    def _parts(self, call: Any) -> dict[str, LogPart]:
        try:
            parts: dict[str, LogPart] = ray.get(call)
        except ray.exceptions.RayError:
            return {}  # its node is lost, or its actor restarts
        return parts
