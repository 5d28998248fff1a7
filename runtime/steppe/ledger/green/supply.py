"""The supply of a site hour by hour: from what source, and in whole Wh.

Sources are named `wind`, `sun`, `grid/coal`, `battery/wind`, `battery/grid/coal`: what a battery
gives keeps the name of what charged it. Meters count uJ. A Wh belongs to the hour in which it
becomes whole; what is below 1 Wh is carried to the next hour, so that none is lost or made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from steppe.errors import UsageError
from steppe.ledger.green.shares import shared

UJ_PER_WH = 3_600_000_000
WIND, SUN, GRID, BATTERY, UNKNOWN = "wind", "sun", "grid", "battery", "unknown"
GREEN = (WIND, SUN, f"{BATTERY}/{WIND}", f"{BATTERY}/{SUN}")
"""The sources that are green by themselves. The green part of the grid's mix belongs to others: it
counts here only with certificates."""


@dataclass(frozen=True, slots=True)
class Flows:
    """What the meters of a site counted in an hour, uJ.

    Attributes:
        hour: The hour, hours since the Unix epoch.
        load_uj: What the site used.
        wind_uj: What its wind turbines gave, without what was curtailed.
        sun_uj: What its solar cells gave, without what was curtailed.
        grid_uj: What it drew from the public grid.
        grid_mix: Weight of each source in the grid, in any unit; empty if unknown.
        charged_uj: What its battery took, at the terminals.
        discharged_uj: What its battery gave, at the terminals.
        stored_uj: What the battery's gauge shows at the end.
    """

    hour: int
    load_uj: int
    wind_uj: int = 0
    sun_uj: int = 0
    grid_uj: int = 0
    grid_mix: Mapping[str, int] = field(default_factory=dict)
    charged_uj: int = 0
    discharged_uj: int = 0
    stored_uj: int = 0

    def __post_init__(self) -> None:
        """Refuse counts below 0, and a battery that takes more than there is.

        Raises:
            UsageError: One of these.
        """
        for name in ("load_uj", "wind_uj", "sun_uj", "grid_uj", "discharged_uj", "stored_uj"):
            if getattr(self, name) < 0:
                found = f"found {getattr(self, name)}"
                raise UsageError(f"hour {self.hour}: asked for {name} of at least 0, {found}")
        most = self.wind_uj + self.sun_uj + self.grid_uj
        if not 0 <= self.charged_uj <= most:
            asked = f"asked for charged_uj of 0 to {most}, all that came"
            raise UsageError(f"hour {self.hour}: {asked}, found {self.charged_uj}")

    @property
    def came_uj(self) -> dict[str, int]:
        """What came from each source but the battery, uJ."""
        known = any(self.grid_mix.values())
        grid = shared(self.grid_uj, self.grid_mix if known else {UNKNOWN: 1})
        return {WIND: self.wind_uj, SUN: self.sun_uj} | {f"{GRID}/{k}": v for k, v in grid.items()}


@dataclass(frozen=True, slots=True)
class Carried:
    """What an hour leaves to the next one, uJ.

    Attributes:
        hour: The hour; -1 before the first one.
        stored_uj: What the battery holds, by the source that charged it.
        supply_uj: What is below 1 Wh, by source.
        load_uj: What is below 1 Wh of the load.
    """

    hour: int = -1
    stored_uj: Mapping[str, int] = field(default_factory=dict)
    supply_uj: Mapping[str, int] = field(default_factory=dict)
    load_uj: int = 0


@dataclass(frozen=True, slots=True)
class HourSupply:
    """What a site had and used in an hour, in whole Wh.

    Attributes:
        hour: The hour, hours since the Unix epoch.
        load_wh: What it used, Wh.
        source_wh: What came from each source, Wh.
        load_uj: The load behind `load_wh`, uJ: that of the hour and what was carried to it.
        lost_uj: What the battery lost, uJ.
    """

    hour: int
    load_wh: int
    source_wh: Mapping[str, int]
    load_uj: int
    lost_uj: int

    @property
    def green_wh(self) -> int:
        """Generation and discharge that are green by themselves, Wh."""
        return sum(self.source_wh.get(source, 0) for source in GREEN)

    @property
    def matched_wh(self) -> int:
        """Load that they cover in this hour, Wh."""
        return min(self.load_wh, self.green_wh)


def supply_of(flows: Flows, carried: Carried) -> tuple[HourSupply, Carried]:
    """Return the supply of an hour, and what it leaves to the next one.

    A battery is charged by all that comes in the hour, pro rata; it loses and gives all that it
    holds, pro rata. What it gives or shows beyond what it was seen to take is of unknown source.

    Raises:
        UsageError: The hour is not after the last one.
    """
    if flows.hour <= carried.hour:
        asked = f"asked for hours after {carried.hour}"
        raise UsageError(f"supply: {asked}, found {flows.hour}")
    came = flows.came_uj
    charge = shared(flows.charged_uj, came)
    given, stored, lost_uj = _through_battery(flows, carried.stored_uj, charge)
    supply_uj = {source: came[source] - charge[source] for source in came}
    supply_uj |= {f"{BATTERY}/{source}": amount for source, amount in given.items()}
    source_wh, rest_uj = {}, {}
    for source in sorted(supply_uj.keys() | carried.supply_uj.keys()):
        amount = supply_uj.get(source, 0) + carried.supply_uj.get(source, 0)
        source_wh[source], rest_uj[source] = divmod(amount, UJ_PER_WH)
    load_uj = flows.load_uj + carried.load_uj
    load_wh, load_rest_uj = divmod(load_uj, UJ_PER_WH)
    supply = HourSupply(flows.hour, load_wh, source_wh, load_uj, lost_uj)
    return supply, Carried(
        flows.hour, stored, {key: rest for key, rest in rest_uj.items() if rest}, load_rest_uj
    )


def _through_battery(
    flows: Flows, held: Mapping[str, int], charge: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int], int]:
    """Return what a battery gave and what it holds afterwards, by source, and what it lost, uJ."""
    full = {key: held.get(key, 0) + charge.get(key, 0) for key in sorted(held.keys() | charge)}
    unseen = flows.discharged_uj + flows.stored_uj - sum(full.values())
    if unseen > 0:
        full[UNKNOWN] = full.get(UNKNOWN, 0) + unseen
    stored = shared(flows.stored_uj, full)
    gone = {key: full[key] - stored[key] for key in full}
    given = shared(flows.discharged_uj, gone)
    lost_uj = sum(gone.values()) - flows.discharged_uj
    return given, {key: amount for key, amount in stored.items() if amount}, lost_uj
