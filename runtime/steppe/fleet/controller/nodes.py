"""The node actors of a fleet, as the controller reads them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import ray

from steppe.fleet.cluster import error_line
from steppe.fleet.messages import NodeReport

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Nodes:
    """The node actors, and the number of the last report read from each."""

    actors: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def request_reports(self) -> dict[Any, str]:
        """Call every node for its new reports; return the calls with the node of each."""
        return {
            actor.report.remote(self.numbers.get(node, 0)): node
            for node, actor in self.actors.items()
        }

    def renew_limits(self) -> None:
        """Let the limits of every node hold on, see `Node.renew`."""
        for node, actor in self.actors.items():
            if node in self.numbers:
                actor.renew.remote(self.numbers[node])

    def read(self, call: Any, node: str) -> list[NodeReport]:
        """Return the new reports of a finished call; none if it failed."""
        try:
            reports: list[NodeReport] = ray.get(call)
        except ray.exceptions.RayError as error:
            _log.warning("node %s does not answer: %s", node[:8], error_line(error))
            return []
        last = self.numbers.get(node, 0)
        new = [report for report in reports if report.number > last]
        if new:
            self.numbers[node] = new[-1].number
        return new
