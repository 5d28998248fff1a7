"""A meter that a Prometheus server collects."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from steppe.config.section import Positive
from steppe.device.prometheus import TIMEOUT_S, ask_prometheus
from steppe.grid.meters.polled import PolledMeter
from steppe.grid.meters.readings import Measured
from steppe.grid.meters.settings import MeterSettings, settings_of


class PrometheusSettings(MeterSettings):
    """A query, and the server that answers it."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    """Address of the server, such as `http://prometheus:9090`."""
    query: str
    """PromQL that gives one value."""
    age_query: str | None = None
    """PromQL that gives the age of that value, s, such as `time() - timestamp(site_power_watts)`.
    If absent, a value counts as new as long as the server gives it: with its defaults, up to
    5 minutes after the last scrape."""
    period_s: Annotated[float, Field(ge=0.1)] = 5.0
    """Time between two queries, s."""
    timeout_s: Positive = TIMEOUT_S
    """Longest wait for an answer, s."""


class PrometheusQuery:
    """Asks a server."""

    def __init__(self, settings: PrometheusSettings) -> None:
        """Keep the query."""
        self._settings = settings

    def read(self) -> Measured:
        """Return the value of the query.

        Raises:
            DeviceError: There is no answer, or it is not one finite number.
        """
        asked = self._settings
        age_s = 0.0
        if asked.age_query is not None:
            # Asked first: a value that arrives in between is newer than this says, never older.
            age_s = ask_prometheus(asked.url, asked.age_query, asked.timeout_s)
        return Measured(ask_prometheus(asked.url, asked.query, asked.timeout_s), age_s)

    def close(self) -> None:
        """Close nothing: each query has a connection of its own."""


class PrometheusMeter(PolledMeter):
    """A `steppe.Signal`: the value of a Prometheus query."""

    def __init__(self, **settings: Any) -> None:
        """Prepare the query.

        Args:
            settings: See `PrometheusSettings`.

        Raises:
            ConfigError: A setting is unknown, missing or out of range.
        """
        checked = settings_of(PrometheusSettings, settings)
        super().__init__(PrometheusQuery(checked), checked, f"the meter at {checked.url}")
