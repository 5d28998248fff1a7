"""The synthetic load that a configuration asks for."""

from __future__ import annotations

from dataclasses import replace

from steppe.config import LoadSection
from steppe.errors import ConfigError
from steppe.load.arrivals import LengthLimits, offered_rate
from steppe.load.synthetic import SyntheticLoad, TrafficChange
from steppe.load.traffic_shape import TrafficShape
from steppe.load.traffics import TRAFFICS


def synthetic_load(
    load: LoadSection, capacity_tps: float, limits: LengthLimits
) -> tuple[SyntheticLoad, float]:
    """Return the traffic of a load with its changes, and its mean rate, requests/s.

    The utilisation gives each traffic a rate of its own, because the mean output differs.

    Args:
        load: The section.
        capacity_tps: Output tokens/s of the whole fleet at full power.
        limits: What scaled lengths are clipped to.

    Raises:
        ConfigError: The load is empty.
    """
    if load.is_empty:
        raise ConfigError("load.utilisation: asked for a load above 0, found 0")

    def rate_of(traffic: TrafficShape) -> float:
        if load.rate_rps is not None:
            return load.rate_rps
        mean = traffic.mean_request(load.length_scale, limits)
        return offered_rate(capacity_tps, load.utilisation, mean.output_tokens)

    traffic = TRAFFICS[load.traffic]
    changes = tuple(
        TrafficChange(part.at_s, TRAFFICS[part.traffic], part.rate_rps)
        for part in load.traffic_changes
    )
    rated = tuple(
        change if change.rate_rps is not None else replace(change, rate_rps=rate_of(change.traffic))
        for change in changes
    )
    return SyntheticLoad(traffic, changes=rated), rate_of(traffic)
