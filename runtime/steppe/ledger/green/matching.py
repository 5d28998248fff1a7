"""An hour of a site: its green supply is matched to its load and shared among its receipts.

Each Wh of its own green generation becomes a granular certificate, so that what was sent to others
cannot be matched here as well. Without other certificates the match is
`min(load, deliverable generation + discharged green storage)`. A GEC does not say in which hour it
was generated: what it covers is not green by the hour, and stands apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steppe.errors import UsageError
from steppe.ledger.entries import Movement
from steppe.ledger.green.certificates import Certificate, own_id
from steppe.ledger.green.register import Register
from steppe.ledger.green.shares import shared
from steppe.ledger.green.supply import GREEN, UJ_PER_WH, HourSupply
from steppe.ledger.receipt import Receipt

OPERATOR = ""
"""The name under which the operator takes its share: idle, transitions, waste, cooling, and the
load below 1 Wh that was carried from an earlier hour."""


@dataclass(frozen=True, slots=True)
class HourMatch:
    """What is green of an hour of a site, and whose it is.

    Attributes:
        site: The site.
        hour: The hour, hours since the Unix epoch.
        load_wh: What the site used, Wh.
        green_wh: What of it is matched to generation of this hour, Wh.
        gec_wh: What of the rest GECs cover, Wh.
        shares_uj: What of `green_wh` each receipt has, and the operator (`OPERATOR`), uJ.
        gec_shares_uj: What of `gec_wh` they have, uJ.
        movements: The movements of certificates that this made.
    """

    site: str
    hour: int
    load_wh: int
    green_wh: int
    gec_wh: int
    shares_uj: Mapping[str, int]
    gec_shares_uj: Mapping[str, int]
    movements: Sequence[Movement]

    @property
    def green_uj(self) -> int:
        """What is matched to generation of this hour, uJ: the sum of `shares_uj`."""
        return self.green_wh * UJ_PER_WH

    @property
    def gec_uj(self) -> int:
        """What GECs cover, uJ: the sum of `gec_shares_uj`."""
        return self.gec_wh * UJ_PER_WH


def own_certificates(site: str, zone: str, supply: HourSupply) -> list[Certificate]:
    """Return the granular certificates of a site's own green supply in an hour."""
    hour, made = supply.hour, []
    for source in GREEN:
        if wh := supply.source_wh.get(source, 0):
            id_ = own_id(site, source, hour)
            made.append(Certificate(id_, "granular", site, site, zone, source, wh, hour, hour + 1))
    return made


def energy_of(receipts: Sequence[Receipt]) -> dict[str, int]:
    """Return the energy of each receipt with its share of idle, uJ.

    A correction is added to the receipt that it corrects.
    """
    energy: dict[str, int] = {}
    for each in receipts:
        key = each.corrects or each.id
        energy[key] = energy.get(key, 0) + each.energy_uj + each.idle_uj
    return energy


def shares_of(green_wh: int, supply: HourSupply, energy_uj: Mapping[str, int]) -> dict[str, int]:
    """Return the green energy of each receipt and of the operator, uJ; no share is above its load.

    Args:
        green_wh: What is matched, at most the load, Wh.
        supply: The hour.
        energy_uj: The energy of each receipt within the load of the hour, uJ.

    Raises:
        UsageError: The receipts have more than the load, or more is matched than the load.
    """
    rest_uj = supply.load_uj - sum(energy_uj.values())
    if rest_uj < 0:
        asked = f"asked for receipts of at most {supply.load_uj} uJ, the load"
        raise UsageError(f"hour {supply.hour}: {asked}, found {-rest_uj} uJ more")
    if green_wh > supply.load_wh:
        asked = f"asked to share {green_wh} Wh"
        raise UsageError(f"hour {supply.hour}: {asked}, found a load of {supply.load_wh} Wh")
    return shared(green_wh * UJ_PER_WH, _loads(supply, energy_uj))


def _loads(supply: HourSupply, energy_uj: Mapping[str, int]) -> dict[str, int]:
    return {**energy_uj, OPERATOR: supply.load_uj - sum(energy_uj.values())}


def match_hour(
    site: str, zone: str, supply: HourSupply, energy_uj: Mapping[str, int], register: Register
) -> HourMatch:
    """Match an hour: issue its own certificates, match those that may be used, share the result.

    The same hour again changes nothing.

    Args:
        site: The site; it owns the certificates.
        zone: Its grid zone.
        supply: Its supply and load.
        energy_uj: The energy of each receipt within the load of the hour, uJ.
        register: The register of certificates, which is changed.

    Raises:
        UsageError: The receipts have more than the load.
        GreenError: A certificate would be used twice.
    """
    shares_of(0, supply, energy_uj)
    movements: list[Movement] = []
    for certificate in own_certificates(site, zone, supply):
        movements += register.issue(certificate)
    movements += register.match(site, zone, supply.hour, supply.load_wh)
    gec_wh = register.gec_wh(site, supply.hour)
    green_wh = register.matched_wh(site, supply.hour) - gec_wh
    shares = shares_of(green_wh, supply, energy_uj)
    rest = {key: load - shares[key] for key, load in _loads(supply, energy_uj).items()}
    gec_shares = shared(gec_wh * UJ_PER_WH, rest)
    return HourMatch(
        site, supply.hour, supply.load_wh, green_wh, gec_wh, shares, gec_shares, movements
    )
