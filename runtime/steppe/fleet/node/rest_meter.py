"""Reads what a node draws beside its GPUs, from Prometheus or RAPL, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from steppe.config import NodeMeterSection, SiteSection
from steppe.device.prometheus import ask_prometheus
from steppe.device.rapl import RaplMeter
from steppe.energy.gpu_meters import EnergyHistory, window_over
from steppe.energy.node_rest import NodeRest, RestHistory
from steppe.errors import DeviceError

RAPL_PERIOD_S = 1.0
SHORTEST_S = 1.0
"""The draw of the GPUs is a mean over at least so long, s."""
STOP_S = 2.0
"""Longest wait for the thread to end, s: a query may be on its way."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeName:
    """What a query may call a node.

    Attributes:
        host: Its host name.
        address: The address by which Ray knows it.
    """

    host: str
    address: str

    def filled_in(self, query: str) -> str:
        """Return a query with the names in place of `{node}` and `{address}`."""
        return query.replace("{node}", self.host).replace("{address}", self.address)


class PrometheusRest:
    """The draw beside the GPUs, by a meter that Prometheus collects."""

    def __init__(
        self,
        section: NodeMeterSection,
        name: NodeName,
        gpus: Mapping[str, EnergyHistory],
        ask: Callable[[str, str], float] = ask_prometheus,
    ) -> None:
        """Prepare the query; this asks no server yet.

        Args:
            section: The meter.
            name: The node.
            gpus: Meters of its GPUs, whose draw is deducted where the meter encloses them.
            ask: Returns the value of a query at an address.
        """
        self._section, self._gpus, self._ask = section, gpus, ask
        self._query = name.filled_in(section.query)
        self.period_s = section.period_s

    def read_w(self, now_s: float) -> float:
        """Return the draw beside the GPUs, W, as it was about `delay_s` ago.

        Raises:
            DeviceError: The server gives no value, or the GPUs no reading for that time.
        """
        watts = self._ask(self._section.url, self._query)
        if self._section.measures == "rest":
            return max(0.0, watts)
        # A mean over twice the delay is as old as the value.
        span_s = max(SHORTEST_S, 2 * self._section.delay_s)
        gpus_w = window_over(tuple(self._gpus.values()), now_s - span_s, now_s).mean_w
        return max(0.0, watts - gpus_w)


class RaplRest:
    """The draw of CPU and memory since the last reading, by RAPL."""

    period_s = RAPL_PERIOD_S

    def __init__(self, meter: RaplMeter, clock: Callable[[], float]) -> None:
        """Begin at the present reading."""
        self._meter, self._last_s, self._last_j = meter, clock(), meter.energy_j()

    def read_w(self, now_s: float) -> float:
        """Return the mean draw since the last reading, W.

        Raises:
            DeviceError: A counter cannot be read.
        """
        energy_j = self._meter.energy_j()
        elapsed_s = max(now_s - self._last_s, 1e-3)
        watts = (energy_j - self._last_j) / elapsed_s
        self._last_s, self._last_j = now_s, energy_j
        return watts


class RestMeter:
    """The draw of one node beside its GPUs.

    Attributes:
        history: Its readings; the stated figure where there are none.
    """

    def __init__(
        self,
        site: SiteSection,
        reader: PrometheusRest | RaplRest | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with the stated figure; `start` begins to read.

        Args:
            site: The figures.
            reader: Reads the meter; None where there is only the stated figure.
            clock: Returns monotonic time, s.
        """
        meter = site.node_meter
        self.history = RestHistory(
            site.node_rest_w,
            replaces=not isinstance(reader, RaplRest),
            error=0.0 if meter is None else meter.error,
            stale_s=60.0 if meter is None else meter.stale_s,
        )
        self._reader, self._clock = reader, clock
        self._stop = threading.Event()
        self._warning = ""
        self._thread = threading.Thread(target=self._poll, daemon=True, name="rest-meter")

    def start(self) -> None:
        """Begin to read, if there is a meter."""
        if self._reader is not None:
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def now(self) -> NodeRest:
        """Return the present draw beside the GPUs."""
        return self.history.at(self._clock())

    def read(self) -> None:
        """Read the meter once; log an error once, until it changes."""
        assert self._reader is not None, "there is a meter"
        warning = ""
        try:
            watts = self._reader.read_w(self._clock())
            self.history.add(self._clock(), watts)
        except DeviceError as error:
            warning = str(error)
        if warning and not self._warning:
            _log.warning("the meter of this node gives nothing: %s", warning)
        elif self._warning and not warning:
            _log.warning("the meter of this node gives values again")
        self._warning = warning

    def _poll(self) -> None:
        assert self._reader is not None, "there is a meter"
        while True:
            self.read()
            if self._stop.wait(self._reader.period_s):
                return
