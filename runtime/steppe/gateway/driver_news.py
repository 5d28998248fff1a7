"""What the driver and the gateway tell each other, once in each poll of the driver."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.gateway.ended_requests import RequestEnergy
from steppe.gateway.usage import UsageRow


@dataclass(frozen=True, slots=True)
class DriverNews:
    """What is new in the driver's books.

    Attributes:
        energies: The energy of requests that have ended.
        usage: Rows of the usage that have changed.
    """

    energies: tuple[RequestEnergy, ...] = ()
    usage: tuple[UsageRow, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayNews:
    """What the gateway answers.

    Attributes:
        usage_rows: Rows of usage that it has; fewer than the driver's after it was restarted.
    """

    usage_rows: int = 0
