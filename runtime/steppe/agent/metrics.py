"""The agent's metrics, as a file for the textfile collector of node_exporter.

A file rather than a port: the agent may change the GPUs of the host, and so has no network.
node_exporter, which most sites run, adds the age of the file (`node_textfile_mtime_seconds`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from steppe.agent.messages import AgentStatus

WRITE_S = 5.0
"""Time between two writes of the file, s."""

_log = logging.getLogger(__name__)


class AgentCounts(Collector):
    """What has happened since the agent started.

    Attributes:
        leases: Leases that were taken.
        lost: Holders that were lost: gone without a release, or silent.
        refused: Requests of clients that were refused.
    """

    def __init__(self) -> None:
        """Begin at 0."""
        self.leases = self.lost = self.refused = 0

    def collect(self) -> Sequence[Metric]:
        """Return the counters."""
        found = (
            ("leases", "Leases that clients took", self.leases),
            ("holders_lost", "Holders that went without a release or fell silent", self.lost),
            ("requests_refused", "Requests of clients that were refused", self.refused),
        )
        return [CounterMetricFamily(f"steppe_agent_{n}", text, value) for n, text, value in found]


class MetricsFile:
    """Writes the metrics of an agent to a file."""

    def __init__(self, path: Path, counts: AgentCounts) -> None:
        """Name the file; `write_if_due` makes it.

        Args:
            path: The file; its name ends in `.prom` for node_exporter.
            counts: What has happened so far.
        """
        self._path, self._due_s, self._error = path, -math.inf, ""
        self._registry = CollectorRegistry()
        self._registry.register(counts)
        self._held = self._gauge("gpu_held", "1 while a client holds the GPU", "gpu", "holder")
        self._left = self._gauge(
            "lease_left_seconds", "Time until the lease ends without a heartbeat", "holder"
        )
        self._clock = self._gauge("gpu_clock_limit_hertz", "SM clock limit that was set", "gpu")
        self._power = self._gauge("gpu_power_limit_watts", "Board power limit that was set", "gpu")
        self._obeys = self._gauge(
            "gpu_clock_limit_obeyed", "1 if the SM clock was seen to obey its limit", "gpu"
        )
        self._fault = self._gauge(
            "gpu_fault", "1 while a limit cannot be set, undone or seen to hold", "gpu"
        )

    @property
    def due_s(self) -> float:
        """When the next write is due, s."""
        return self._due_s

    def write_if_due(self, status: AgentStatus, now_s: float) -> None:
        """Replace the file unless it is recent; an error is logged once until it changes."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + WRITE_S
        draft = self._path.with_name(self._path.name + ".draft")
        try:
            draft.write_bytes(self.text(status))
            draft.replace(self._path)
            self._error = ""
        except OSError as error:
            if str(error) != self._error:
                _log.warning("metrics cannot be written: %s", error)
            self._error = str(error)

    def remove(self) -> None:
        """Remove the file, so that no old value is collected for ever."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("metrics cannot be removed: %s", error)

    def text(self, status: AgentStatus) -> bytes:
        """Return the exposition of a status."""
        for gauge in (self._held, self._left, self._clock, self._power):
            gauge.clear()
        for lease in status.leases:
            self._left.labels(lease.holder or f"process {lease.holder_pid}").set(lease.left_s)
        for gpu in status.gpus:
            if gpu.holder_pid is not None:
                self._held.labels(gpu.uuid, gpu.holder or f"process {gpu.holder_pid}").set(1)
            if gpu.clock_mhz is not None:
                self._clock.labels(gpu.uuid).set(gpu.clock_mhz * 1e6)
            if gpu.power_limit_w is not None:
                self._power.labels(gpu.uuid).set(gpu.power_limit_w)
            self._obeys.labels(gpu.uuid).set(gpu.is_confirmed)
            self._fault.labels(gpu.uuid).set(gpu.fault is not None)
        return generate_latest(self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"steppe_agent_{name}", text, labels, registry=self._registry)
