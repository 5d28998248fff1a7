"""A meter that a Prometheus server collects."""

from __future__ import annotations

import ipaddress
import ssl
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from steppe.config.section import FilePath, Positive
from steppe.device.prometheus import TIMEOUT_S, ask_prometheus
from steppe.errors import ConfigError, TransientDeviceError, UsageError
from steppe.grid.meters.polled import PolledMeter
from steppe.grid.meters.readings import Measured
from steppe.grid.meters.settings import MeterSettings, settings_of
from steppe.grid.service.secret_files import read_secret


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
    token_file: FilePath | None = None
    """File with a bearer token, one line; it is read for each query, for it may change."""
    ca_file: FilePath | None = None
    """File with the certificates of the authorities that are trusted, PEM; absent, those of the
    system."""

    @model_validator(mode="after")
    def _no_token_in_the_clear(self) -> Self:
        if self.token_file is not None and not _is_private(self.url):
            raise ValueError("url: asked for https, or this host, beside token_file, found http")
        return self


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
        age_query = self._settings.age_query
        # Asked first: a value that arrives in between is newer than this says, never older.
        age_s = 0.0 if age_query is None else self._ask(age_query)
        return Measured(self._ask(self._settings.query), age_s)

    def check(self) -> None:
        """Read the token and the certificates.

        Raises:
            ConfigError: One cannot be read.
        """
        ca_file = self._settings.ca_file
        try:
            self._token()
            if ca_file is not None:
                ssl.create_default_context(cafile=ca_file)
        except UsageError as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            asked = f"ca_file: asked for certificates in {ca_file}"
            raise ConfigError(f"{asked}, found: {error.strerror or error}") from error

    def close(self) -> None:
        """Close nothing: each query has a connection of its own."""

    def _ask(self, query: str) -> float:
        asked = self._settings
        try:
            token = self._token()
        except UsageError as error:
            raise TransientDeviceError(f"{asked.url}: {error}") from error
        return ask_prometheus(asked.url, query, asked.timeout_s, token=token, ca_file=asked.ca_file)

    def _token(self) -> str:
        file = self._settings.token_file
        return "" if file is None else read_secret("token_file", file)


class PrometheusMeter(PolledMeter):
    """A `steppe.Signal`: the value of a Prometheus query."""

    def __init__(self, **settings: Any) -> None:
        """Prepare the query.

        Args:
            settings: See `PrometheusSettings`.

        Raises:
            ConfigError: A setting is unknown, missing or out of range, or a file cannot be read.
        """
        checked = settings_of(PrometheusSettings, settings)
        query = PrometheusQuery(checked)
        query.check()
        super().__init__(query, checked, f"the meter at {checked.url}")


def _is_private(url: str) -> bool:
    """Return whether others cannot read what is sent to a URL."""
    place = urlsplit(url)
    try:
        is_here = ipaddress.ip_address(place.hostname or "").is_loopback
    except ValueError:
        is_here = place.hostname == "localhost"
    return place.scheme == "https" or is_here
