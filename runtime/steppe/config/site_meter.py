"""The meter at the connection point of the site."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from steppe.config.section import Positive, Section, Share
from steppe.config.user_class import ClassPath


class SiteMeterSection(Section):
    """A meter at the connection point, beside the draw of the site that Steppe computes.

    It sets no limit. A difference that lasts is logged once.
    """

    signal: ClassPath
    """A `steppe.Signal`, `package.module:Class`, that gives the draw of the site, W: one of
    `steppe.grid.meters.prometheus:PrometheusMeter`, `steppe.grid.meters.sunspec:SunSpecMeter` and
    `steppe.grid.meters.modbus:RegisterMeter`, or a class of your own."""
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Keyword arguments of its constructor."""
    difference: Share = 0.05
    """Largest difference between both draws that is not logged, share of the higher one."""
    lasts_s: Positive = 60.0
    """How long a difference lasts before it is logged, s."""
