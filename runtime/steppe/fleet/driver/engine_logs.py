"""Collects the logs of the engines from their nodes."""

from __future__ import annotations

from typing import Any

import ray

from steppe.fleet.engine_log import LogPart
from steppe.fleet.messages import Placement

TIMEOUT_S = 2.0
"""Longest wait for the nodes, s; a part that comes later is requested again."""


class EngineLogs:
    """How far the log of each engine has been read."""

    def __init__(self) -> None:
        """Begin at the begin of every log."""
        self._ends: dict[tuple[str, str], int] = {}

    def collect(self, placements: dict[str, Placement]) -> dict[str, bytes]:
        """Return what is new in each log, by replica; logs without news are left out."""
        calls = {
            place.node.engine_log.remote(name, self._ends.get((name, place.node_id), 0)): name
            for name, place in placements.items()
        }
        if not calls:
            return {}
        done, _ = ray.wait([*calls], num_returns=len(calls), timeout=TIMEOUT_S)
        parts = {calls[call]: self._part(call) for call in done}
        found: dict[str, bytes] = {}
        for name, part in parts.items():
            if part is not None:
                self._ends[name, placements[name].node_id] = part.end
                found |= {name: part.text} if part.text else {}
        return found

    def _part(self, call: Any) -> LogPart | None:
        try:
            part: LogPart = ray.get(call)
        except ray.exceptions.RayError:
            return None  # its node is lost, or its actor restarts
        return part
