"""The energy counter that a server publishes in Prometheus's text format."""

from __future__ import annotations

import http.client
import re
import time
import urllib.request
from collections.abc import Callable

from steppe.energy.window import EnergyReading, Quality
from steppe.errors import UsageError

METRIC = "steppe_energy_joules_total"
TIMEOUT_S = 5.0
TICK_S = 1.0
"""Steppe's controller publishes once every control period, 1 s by default."""

_LINE = re.compile(rf"^{METRIC}(?:\{{(?P<labels>[^}}]*)\}})? (?P<value>\S+)", re.MULTILINE)

_BOUNDARY = re.compile(r'^steppe_energy_boundary_info\{boundary="(?P<boundary>[^"]*)"\} 1', re.M)

_SOURCE = re.compile(r'\bsource="(?P<quality>[^"]*)"')


def read_text(url: str) -> str:
    """Return the text behind a URL.

    Raises:
        UsageError: It cannot be reached, is no address, or does not answer as HTTP does.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UsageError(f"{url}: asked for metrics, found: {error}") from error


class EndpointMeter:
    """The energy counter of a Steppe gateway; late by up to one control period.

    Attributes:
        boundary: What its joules enclose: `gpu`, `node` or `site`.
    """

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], str] = read_text,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the counter for the first time.

        Args:
            url: Address of the server, with or without `/v1`.
            fetch: Returns the text behind a URL.
            clock: Returns the time, s.

        Raises:
            UsageError: The server publishes no joules.
        """
        self.boundary = "gpu"
        self._url = url.rstrip("/").removesuffix("/v1") + "/metrics"
        self._fetch = fetch
        self._counters_j = self._read()
        self._last_s, self._energy_j, self._mean_w = clock(), 0.0, 0.0

    @property
    def source(self) -> str:
        """Whether the joules are `measured` or `emulated`."""
        return "emulated" if self._quality() is Quality.EMULATED else "measured"

    def read_at(self, at_s: float) -> EnergyReading:
        """Return the energy since the meter began.

        The error is the energy of one control period at each end, at the mean draw. A counter that
        fell has restarted at 0. What it counted last is lost, so the error also contains the energy
        of the whole time at the draw before, and the quality is `estimated`.

        Raises:
            UsageError: The server no longer answers.
        """
        before, self._counters_j = self._counters_j, self._read()
        rise_j = sum(_rise_j(before.get(key, 0.0), j) for key, j in self._counters_j.items())
        has_restarted = any(self._counters_j.get(key, 0.0) < j for key, j in before.items())
        span_s = max(at_s - self._last_s, 1e-9)
        lost_j = self._mean_w * span_s if has_restarted else 0.0
        self._mean_w = rise_j / span_s
        self._last_s, self._energy_j = at_s, self._energy_j + rise_j
        quality = self._quality()
        if has_restarted and quality is not Quality.EMULATED:
            quality = Quality.ESTIMATED
        error_j = 2 * TICK_S * self._mean_w + lost_j
        return EnergyReading(at_s, self._energy_j, error_j, quality)

    def _read(self) -> dict[str, float]:
        """Return the counters by their labels, J."""
        text = self._fetch(self._url)
        lines = list(_LINE.finditer(text))
        found = _BOUNDARY.search(text)
        self.boundary = self.boundary if found is None else found["boundary"]
        if not lines:
            raise UsageError(f"{self._url}: asked for {METRIC}, found no such metric")
        return {line["labels"] or "": float(line["value"]) for line in lines}

    def _quality(self) -> Quality:
        """Return the worst quality in the labels; without a `source` label it is a counter."""
        found = [_SOURCE.search(labels) for labels in self._counters_j]
        named = [source["quality"] for source in found if source is not None]
        order = (Quality.EMULATED, Quality.ESTIMATED, Quality.INTEGRATED)
        return next((quality for quality in order if quality in named), Quality.COUNTER)


def _rise_j(before_j: float, now_j: float) -> float:
    return now_j - before_j if now_j >= before_j else now_j
