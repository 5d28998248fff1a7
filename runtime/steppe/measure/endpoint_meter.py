"""Joules that a server counts itself and publishes in Prometheus's text format."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from steppe.energy.window import Quality
from steppe.errors import UsageError

METRIC = "steppe_energy_joules_total"
TIMEOUT_S = 5.0
TICK_S = 1.0
"""Steppe's controller publishes once a control period, 1 s by default."""

_LINE = re.compile(rf"^{METRIC}(?:\{{(?P<labels>[^}}]*)\}})? (?P<value>\S+)", re.MULTILINE)


def read_text(url: str) -> str:
    """Return what a URL answers.

    Raises:
        UsageError: It cannot be reached.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise UsageError(f"{url}: asked for metrics, found: {error}") from error


class EndpointMeter:
    """The energy counter of a Steppe gateway; late by up to one control period."""

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
            clock: Tells the time, s.

        Raises:
            UsageError: The server publishes no joules.
        """
        self._url = url.rstrip("/").removesuffix("/v1") + "/metrics"
        self._fetch = fetch
        self.source = "measured"
        self._first_j = self._counter_j()
        self._last_s, self._last_j = clock(), 0.0

    def read_at(self, at_s: float) -> tuple[float, float, str]:
        """Return energy since the beginning, J; error since the last call, J; quality.

        The error is what may have been drawn in a control period at each end, at the mean draw.

        Raises:
            UsageError: The server does not answer any more.
        """
        energy_j = self._counter_j() - self._first_j
        span_s = max(at_s - self._last_s, 1e-9)
        error_j = 2 * TICK_S * (energy_j - self._last_j) / span_s
        self._last_s, self._last_j = at_s, energy_j
        quality = Quality.EMULATED if self.source == "emulated" else Quality.COUNTER
        return energy_j, error_j, str(quality)

    def _counter_j(self) -> float:
        lines = list(_LINE.finditer(self._fetch(self._url)))
        if not lines:
            raise UsageError(f"{self._url}: asked for {METRIC}, found no such metric")
        if any("emulated" in (line["labels"] or "") for line in lines):
            self.source = "emulated"
        return sum(float(line["value"]) for line in lines)
