"""An hour of a running site: from what its meters counted to the green share of each receipt.

A receipt's energy is what it took within the hour, with its share of the idle energy. What it took
in an earlier hour is not matched to generation of this one. The rest of the load is the operator's
own: transitions, waste, cooling, and what requests took that are still open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from steppe.ledger.green.certificates import Certificate
from steppe.ledger.green.match import FIRST, GreenShare, Match, MatchError
from steppe.ledger.green.shares import shared
from steppe.ledger.green.supply import BATTERY, GRID, SUN, UNKNOWN, WIND, Flows, HourSupply
from steppe.ledger.periods.period import Period
from steppe.ledger.periods.shares import shares_of
from steppe.ledger.receipt import Receipt
from steppe.ledger.split import split
from steppe.ledger.tree import head_of

EXPORT = "export"
"""Name under which a run counts what its site gave to the grid."""
_NAMES = {"solar": SUN}
"""Other names of sources."""


@dataclass(frozen=True, slots=True)
class HourEnergy:
    """What the runs of a site counted in an hour, uJ.

    Attributes:
        load_uj: What the site used.
        supply_uj: What flowed from each source, without what was curtailed: `wind`, `sun`, `grid`,
            `battery`; and `export`, what went to the grid.
        charged_uj: What the battery took, at its terminals.
        stored_uj: What the battery's gauge showed at the end.
    """

    load_uj: int = 0
    supply_uj: Mapping[str, int] = field(default_factory=dict)
    charged_uj: int = 0
    stored_uj: int = 0


@dataclass(frozen=True, slots=True)
class ReceiptLoad:
    """A receipt of an hour.

    Attributes:
        id: Its id.
        hash: SHA-256 of its entry, hexadecimal.
        tenant: Its tenant.
        energy_uj: Its energy within the hour, with its share of idle, uJ.
    """

    id: str
    hash: str
    tenant: str
    energy_uj: int


@dataclass(frozen=True, slots=True)
class Used:
    """What a match uses.

    Attributes:
        zone: Grid zone of the site.
        certificates: Certificates, and how many Wh of each.
    """

    zone: str
    certificates: Sequence[tuple[Certificate, int]]

    @property
    def green_wh(self) -> int:
        """What is of the hour itself, Wh."""
        return sum(wh for each, wh in self.certificates if each.form == "granular")

    @property
    def gec_wh(self) -> int:
        """What is of GECs, Wh."""
        return sum(wh for each, wh in self.certificates if each.form == "gec")


def flows_of(hour: int, energy: HourEnergy, grid_mix: Mapping[str, int]) -> Flows:
    """Return the flows of an hour; figures that do not fit never make more green energy.

    Wind and sun beyond what load, battery and grid took together were curtailed: they are left out.
    A battery takes no more than came. Sources of other names are of unknown origin.

    Args:
        hour: The hour, hours since the Unix epoch.
        energy: What was counted.
        grid_mix: Weight of each source in the grid, in any unit; empty if unknown.
    """
    came = dict.fromkeys((WIND, SUN, BATTERY, EXPORT, GRID, UNKNOWN), 0)
    for name, amount in energy.supply_uj.items():
        known = _NAMES.get(name, name)
        came[known if known in came else UNKNOWN] += max(0, amount)
    is_known = any(grid_mix.values())
    mix = dict(shared(came[GRID], grid_mix if is_known else {UNKNOWN: 1}))
    mix[UNKNOWN] = mix.get(UNKNOWN, 0) + came[UNKNOWN]
    load, given, grid = max(0, energy.load_uj), came[BATTERY], came[GRID] + came[UNKNOWN]
    taken = load + max(0, energy.charged_uj) + came[EXPORT] - given - grid
    own = [came[WIND], came[SUN]]
    wind, sun = split(min(sum(own), max(0, taken)), own)
    return Flows(
        hour=hour,
        load_uj=load,
        wind_uj=wind,
        sun_uj=sun,
        grid_uj=grid,
        grid_mix=mix,
        charged_uj=min(max(0, energy.charged_uj), wind + sun + grid),
        discharged_uj=given,
        stored_uj=max(0, energy.stored_uj),
    )


def loads_of(period: Period, receipts: Sequence[Receipt]) -> list[ReceiptLoad]:
    """Return the energy of an hour's receipts within the hour, by their number.

    A correction of a receipt of this hour is added to it; others change an earlier hour.

    Args:
        period: The book of the hour.
        receipts: Its receipts, and the corrections written in it.
    """
    own = sorted((one for one in receipts if not one.corrects), key=lambda one: (one.seq, one.id))
    idle = {share.receipt: share for share in shares_of(period.idle_uj, receipts)}
    corrected: dict[str, int] = {}
    for one in receipts:
        if one.corrects:
            corrected[one.corrects] = corrected.get(one.corrects, 0) + one.energy_uj
    whole = [max(0, one.energy_uj + corrected.get(one.id, 0)) for one in own]
    within = split(max(0, sum(whole) - period.carried_in_uj), whole)
    return [
        ReceiptLoad(one.id, idle[one.id].hash, one.tenant, part + idle[one.id].idle_uj)
        for one, part in zip(own, within, strict=True)
    ]


def shared_among(
    green_uj: int, gec_uj: int, loads: Sequence[int], rest_uj: int
) -> list[tuple[int, int]]:
    """Return what each load has of a match, uJ: matched, and covered by GECs; the rest's part last.

    Args:
        green_uj: What is matched, at most all of the loads and the rest, uJ.
        gec_uj: What GECs cover of what is left then, uJ.
        loads: Energy of each receipt that is not green yet, uJ.
        rest_uj: The same of the operator, uJ.
    """
    weights = [*loads, rest_uj]
    green = split(green_uj, weights)
    left = [weight - part for weight, part in zip(weights, green, strict=True)]
    return list(zip(green, split(gec_uj, left), strict=True))


def root_of_shares(shares: Sequence[GreenShare]) -> str:
    """Return the root of the tree of shares, hexadecimal."""
    return head_of([share.leaf for share in shares]).root.hex()


class HourShares:
    """What each receipt of an hour has of its matches, one match after another."""

    def __init__(self, loads: Sequence[ReceiptLoad], load_uj: int) -> None:
        """Begin without a match.

        Args:
            loads: The receipts.
            load_uj: The load of the hour, uJ.
        """
        self.loads = tuple(loads)
        self.receipts_uj = sum(one.energy_uj for one in loads)
        self._grey = [one.energy_uj for one in loads]
        self._rest_uj = max(0, load_uj - self.receipts_uj)

    @property
    def grey_uj(self) -> int:
        """What is neither matched nor covered, uJ."""
        return sum(self._grey) + self._rest_uj

    def add(self, green_uj: int, gec_uj: int) -> list[GreenShare]:
        """Share a match, and return the part of each receipt.

        Raises:
            MatchError: It is more than what is left.
        """
        if green_uj + gec_uj > self.grey_uj:
            asked = f"asked to share {green_uj + gec_uj} uJ"
            raise MatchError(f"match: {asked}, found {self.grey_uj} uJ that are not green")
        *parts, rest = shared_among(green_uj, gec_uj, self._grey, self._rest_uj)
        self._rest_uj -= sum(rest)
        self._grey = [grey - sum(part) for grey, part in zip(self._grey, parts, strict=True)]
        return [
            GreenShare(one.id, one.hash, one.energy_uj, green, gec)
            for one, (green, gec) in zip(self.loads, parts, strict=True)
        ]


def match_of_hour(
    period: Period,
    supply: HourSupply,
    shares: Sequence[GreenShare],
    used: Used,
    before: Match | None = None,
) -> Match:
    """Return the record of a match.

    Args:
        period: The book of the hour.
        supply: What the site had and used.
        shares: The part of each receipt.
        used: The certificates.
        before: The match before it in this hour; None for the first one.
    """
    return Match(
        site=period.site,
        boundary=period.boundary,
        hour=period.hour,
        number=0 if before is None else before.number + 1,
        before=FIRST if before is None else before.hash,
        period=period.hash,
        zone=used.zone,
        load_wh=supply.load_wh,
        load_uj=supply.load_uj,
        source_wh={name: wh for name, wh in supply.source_wh.items() if wh},
        lost_uj=supply.lost_uj,
        green_wh=used.green_wh,
        gec_wh=used.gec_wh,
        certificates={each.id: wh for each, wh in used.certificates},
        receipts=len(shares),
        receipts_uj=sum(share.energy_uj for share in shares),
        sold_uj=sum(share.green_uj for share in shares),
        gec_sold_uj=sum(share.gec_uj for share in shares),
        root=root_of_shares(shares),
    )


def shares_by_match(
    matches: Sequence[Match], period: Period, receipts: Sequence[Receipt]
) -> list[list[GreenShare]]:
    """Return what each match of an hour gave to each of its receipts, checked against its root.

    Args:
        matches: The matches of the hour, in their order.
        period: The book of the hour.
        receipts: Its receipts, and the corrections written in it.

    Raises:
        MatchError: A match is missing, or gives other shares.
    """
    load_uj = matches[0].load_uj if matches else 0
    shares, found, before = HourShares(loads_of(period, receipts), load_uj), [], FIRST
    for number, match in enumerate(matches):
        where = f"match {match.id}"
        asked = (number, before, period.hash)
        if (match.number, match.before, match.period) != asked:
            raise MatchError(f"{where}: asked for number {number} of the hour, found another")
        parts = shares.add(match.green_uj, match.gec_uj)
        if (len(parts), root_of_shares(parts)) != (match.receipts, match.root):
            raise MatchError(f"{where}: asked for the root of its shares, found {match.root}")
        found.append(parts)
        before = match.hash
    return found


def green_shares(
    matches: Sequence[Match], period: Period, receipts: Sequence[Receipt]
) -> list[GreenShare]:
    """Return what all matches of an hour together gave to each of its receipts.

    Args:
        matches: The matches of the hour, in their order.
        period: The book of the hour.
        receipts: Its receipts, and the corrections written in it.

    Raises:
        MatchError: A match is missing, or gives other shares.
    """
    by_match = shares_by_match(matches, period, receipts)
    return [
        GreenShare(
            one.id,
            one.hash,
            one.energy_uj,
            sum(parts[place].green_uj for parts in by_match),
            sum(parts[place].gec_uj for parts in by_match),
        )
        for place, one in enumerate(loads_of(period, receipts))
    ]
