"""A week of wind, sun and a battery at two sites: no Wh is sold green twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from steppe.ledger.entries import Movement, changes_of
from steppe.ledger.green.books import GreenError
from steppe.ledger.green.certificates import GEC_WH, Certificate, match_of
from steppe.ledger.green.matching import OPERATOR, HourMatch, match_hour
from steppe.ledger.green.register import Register
from steppe.ledger.green.sales import GreenSales, OversoldError
from steppe.ledger.green.supply import UJ_PER_WH, Carried, Flows, supply_of

SITES, ZONE, HOURS = ("hohhot", "ulanqab"), "mengxi", range(490_000, 490_168)


@dataclass
class Site:
    """A site with a battery, and what its meters counted over the hours so far."""

    name: str
    chance: Random
    carried: Carried = field(default_factory=Carried)
    stored_uj: int = 0
    load_uj: int = 0
    green_uj: int = 0
    matches: list[HourMatch] = field(default_factory=list)
    energy: list[dict[str, int]] = field(default_factory=list)

    def flows(self, hour: int) -> Flows:
        """Return an hour of anything: nights, lulls, a battery with losses."""
        up = self.chance.randrange
        day = 6 <= hour % 24 < 18
        wind, sun = up(9 * UJ_PER_WH), up(9 * UJ_PER_WH) if day else 0
        load, grid = up(12 * UJ_PER_WH), up(6 * UJ_PER_WH)
        charged = up(wind + sun + 1) // 2
        given = up(self.stored_uj + 1)
        self.stored_uj = (self.stored_uj - given + charged) * 97 // 100
        self.load_uj += load
        self.green_uj += wind + sun
        mix = {"coal": 60, "wind": 40}
        return Flows(hour, load, wind, sun, grid, mix, charged, given, self.stored_uj)

    def run(self, hour: int, register: Register) -> HourMatch:
        """Match an hour and share it among some requests; the operator has the rest."""
        flows = self.flows(hour)
        supply, self.carried = supply_of(flows, self.carried)
        parts = sorted(self.chance.randrange(flows.load_uj + 1) for _ in range(4))
        ends = zip(parts, [0, *parts], strict=False)
        energy = {f"{self.name}-{hour}-{n}": end - start for n, (end, start) in enumerate(ends)}
        match = match_hour(self.name, ZONE, supply, energy, register)
        assert match_hour(self.name, ZONE, supply, energy, register).movements == []
        self.matches.append(match)
        self.energy.append(energy)
        return match


def bought(hour: int, chance: Random) -> list[Certificate]:
    """Return what a site buys in an hour: some of a wind farm, and now and then a GEC."""
    owner = chance.choice(SITES)
    farm = Certificate(f"f{hour}", "granular", owner, "farm", ZONE, "wind", 3, hour, hour + 1)
    if hour % 60:
        return [farm]
    gec = Certificate(f"g{hour}", "gec", owner, "park", ZONE, "sun", GEC_WH, hour, hour + 24)
    return [farm, gec]


def sell_all(match: HourMatch, sales: GreenSales, chance: Random) -> None:
    """Sell each receipt its share; more than that is refused, and a retry changes nothing."""
    sales.offer(match)
    for receipt, green_uj in match.shares_uj.items():
        if receipt == OPERATOR or not green_uj:
            continue
        assert sales.sell(receipt, match.site, match.hour, "lab", green_uj)
        assert not sales.sell(receipt, match.site, match.hour, "lab", green_uj)
    free_uj = sales.free_uj(match.site, match.hour)
    over_uj = free_uj + 1 + chance.randrange(UJ_PER_WH)
    with pytest.raises(OversoldError):
        sales.sell(f"over-{match.site}-{match.hour}", match.site, match.hour, "lab", over_uj)


def uses_of(movements: Sequence[Movement]) -> Counter[str]:
    """Return how many Wh of each certificate are matched, counted from the movements only."""
    uses: Counter[str] = Counter()
    for each in movements:
        if place := match_of(each):
            uses[place[0]] += each.amount
    return uses


@pytest.mark.parametrize("seed", range(3))
def test_in_a_week_no_wh_is_sold_green_twice(seed: int) -> None:
    chance = Random(seed)
    register, sales = Register(), GreenSales()
    sites = [Site(name, chance) for name in SITES]
    for hour in HOURS:
        for certificate in bought(hour, chance):
            register.issue(certificate)
        for site in sites:
            sell_all(site.run(hour, register), sales, chance)
        if hour % 50 == 0:  # the service starts again
            register = Register(register.certificates, register.movements)
            sales = GreenSales(sales.movements)
    uses, known = uses_of(register.movements), {each.id: each for each in register.certificates}
    assert sum(uses.values()) > 500, "a week without green energy shows nothing"
    assert all(used_wh <= known[id_].wh for id_, used_wh in uses.items())
    assert sum(uses.values()) == sum(
        each.green_wh + each.gec_wh for site in sites for each in site.matches
    )
    for site in sites:
        own = [each for each in known.values() if each.producer == site.name]
        assert sum(each.wh for each in own) * UJ_PER_WH <= site.green_uj, "more than its meters saw"
        assert sum(each.load_wh for each in site.matches) == site.load_uj // UJ_PER_WH
        for match, energy in zip(site.matches, site.energy, strict=True):
            assert match.green_wh + match.gec_wh <= match.load_wh
            for key, used_uj in energy.items():
                assert match.shares_uj[key] + match.gec_shares_uj[key] <= used_uj
            sold_uj = sales.sold_uj(site.name, match.hour)
            assert sold_uj == match.green_uj - match.shares_uj[OPERATOR]
    for id_, owner in {
        (place[0], place[2]) for place in map(match_of, register.movements) if place
    }:
        register.cancel(id_, owner)
        with pytest.raises(GreenError):
            register.cancel(id_, owner)
    assert uses == {id_: register.balance_wh("cancelled", id_) for id_ in uses}


class AnyOrder(RuleBasedStateMachine):
    """A register under any order of calls, beside a list of single Wh."""

    def __init__(self) -> None:
        super().__init__()
        self.register = Register()
        self.certificates: list[Certificate] = []
        self.uses: dict[tuple[str, str, int], int] = {}
        self.orders = 0

    @rule(owner=st.sampled_from(SITES), hour=st.integers(0, 3), wh=st.integers(1, 9))
    def issue(self, owner: str, hour: int, wh: int) -> None:
        id_ = f"c{len(self.certificates)}"
        granular = Certificate(id_, "granular", owner, "farm", ZONE, "wind", wh, hour, hour + 1)
        self.certificates.append(granular)
        self.register.issue(granular)
        self.register.issue(granular)

    @rule(owner=st.sampled_from(SITES), hour=st.integers(0, 3))
    def import_gec(self, owner: str, hour: int) -> None:
        id_ = f"c{len(self.certificates)}"
        gec = Certificate(id_, "gec", owner, "park", ZONE, "sun", GEC_WH, hour, hour + 2)
        self.certificates.append(gec)
        self.register.issue(gec)

    @rule(owner=st.sampled_from(SITES), hour=st.integers(0, 4), load_wh=st.integers(0, 900_000))
    def match(self, owner: str, hour: int, load_wh: int) -> None:
        before = self.register.matched_wh(owner, hour)
        if load_wh < before:
            with pytest.raises(GreenError):
                self.register.match(owner, ZONE, hour, load_wh)
            return
        for each in self.register.match(owner, ZONE, hour, load_wh):
            place = match_of(each)
            assert place is not None
            assert (place[0], owner, hour) not in self.uses
            self.uses[place[0], owner, hour] = each.amount
        assert self.register.matched_wh(owner, hour) <= load_wh

    @rule(data=st.data(), wh=st.integers(1, 9))
    def send(self, data: st.DataObject, wh: int) -> None:
        if self.certificates:
            each = data.draw(st.sampled_from(self.certificates))
            self.orders += 1
            amount = GEC_WH if each.form == "gec" else wh
            if self.register.available_wh(each.id, SITES[0]) >= amount:
                self.register.send(f"o{self.orders}", each.id, *SITES, amount)

    @rule(data=st.data(), owner=st.sampled_from(SITES))
    def cancel(self, data: st.DataObject, owner: str) -> None:
        if self.certificates:
            each = data.draw(st.sampled_from(self.certificates))
            was_wh = self.register.balance_wh("cancelled", each.id)
            used_wh = self.register.balance_wh(f"tenant/{owner}/matched", each.id)
            if used_wh:
                self.register.cancel(each.id, owner)
                assert self.register.balance_wh("cancelled", each.id) == was_wh + used_wh
            with pytest.raises(GreenError):
                self.register.cancel(each.id, owner)

    @rule()
    def restart(self) -> None:
        self.register = Register(self.certificates, self.register.movements)

    @invariant()
    def each_wh_is_in_one_account_and_one_hour(self) -> None:
        balances = changes_of(self.register.movements)
        for each in self.certificates:
            own = {key[0]: amount for key, amount in balances.items() if key[1] == each.unit}
            assert sum(own.values()) == 0
            assert own.pop("issued") == -each.wh
            assert all(amount >= 0 for amount in own.values())
            uses = {key: wh for key, wh in self.uses.items() if key[0] == each.id}
            assert sum(uses.values()) <= each.wh
            assert all(each.from_hour <= hour < each.to_hour for _, _, hour in uses)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
