"""What the driver and the gateway send each other, once in each poll of the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from steppe.config import RunConfig
from steppe.gateway.config_changes import ChangeResult, ConfigChange
from steppe.gateway.ended_requests import RequestEnergy
from steppe.gateway.usage import UsageRow


@dataclass(frozen=True, slots=True)
class DriverNews:
    """What is new in the driver's books.

    Attributes:
        energies: The energy of requests that have ended.
        usage: Rows of the usage that have changed.
        results: What became of changes of the configuration.
        config: The present configuration and the number of changes in it, if the gateway has
            another one; None if it has the same.
        services: Where the services of the run listen, by name; those that start are not there.
    """

    energies: tuple[RequestEnergy, ...] = ()
    usage: tuple[UsageRow, ...] = ()
    results: tuple[ChangeResult, ...] = ()
    config: tuple[RunConfig, int] | None = None
    services: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayNews:
    """What the gateway answers.

    Attributes:
        usage_rows: Rows of usage that it has; fewer than the driver's after it was restarted.
        changes: Changes of the configuration that it asks for, until it has their results.
        config_version: Number of changes in the configuration that it has.
    """

    usage_rows: int = 0
    changes: tuple[ConfigChange, ...] = ()
    config_version: int = 0
