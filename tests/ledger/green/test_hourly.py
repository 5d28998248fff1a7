"""An hour of a running site: its flows, its receipts within it, and their green shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.green.hours import HOUR, RECEIPTS, period_of, receipt

from steppe.ledger.green.certificates import Certificate
from steppe.ledger.green.checking import check_green_share, check_hour, check_matches
from steppe.ledger.green.hourly import (
    HourEnergy,
    HourShares,
    ReceiptLoad,
    Used,
    flows_of,
    green_shares,
    loads_of,
    match_of_hour,
)
from steppe.ledger.green.match import Match, MatchError
from steppe.ledger.green.supply import UJ_PER_WH, Carried, HourSupply, supply_of
from steppe.ledger.periods.period import Period
from steppe.ledger.tree import ProofError, inclusion_proof, leaf_hash, node_hash

AMOUNT = st.integers(-5, 9 * UJ_PER_WH)
SUPPLY = HourSupply(HOUR, 8, {"wind": 5}, 8 * UJ_PER_WH, 0)
WIND = Certificate("w", "granular", "hohhot", "hohhot", "mengxi", "wind", 5, HOUR, HOUR + 1)
GEC = Certificate("g", "gec", "hohhot", "park", "mengxi", "sun", 1_000_000, HOUR, HOUR + 9)
USED = Used("mengxi", [(WIND, 4), (GEC, 2)])


def wh(**amounts: int) -> dict[str, int]:
    return {name: amount * UJ_PER_WH for name, amount in amounts.items()}


def match_of(period: Period, receipts: tuple[object, ...] = RECEIPTS, used: Used = USED) -> Match:
    shares = HourShares(loads_of(period, receipts), SUPPLY.load_uj)  # type: ignore[arg-type]
    parts = shares.add(used.green_wh * UJ_PER_WH, used.gec_wh * UJ_PER_WH)
    return match_of_hour(period, SUPPLY, parts, used)


def test_wind_beyond_what_was_taken_was_curtailed_and_is_not_certified() -> None:
    flows = flows_of(HOUR, HourEnergy(4 * UJ_PER_WH, wh(wind=6, solar=2)), {})
    assert (flows.wind_uj, flows.sun_uj) == (3 * UJ_PER_WH, UJ_PER_WH)
    stored = HourEnergy(4 * UJ_PER_WH, wh(wind=6, sun=2, export=1), charged_uj=UJ_PER_WH)
    flows = flows_of(HOUR, stored, {})
    assert flows.wind_uj + flows.sun_uj == 6 * UJ_PER_WH
    with_grid = HourEnergy(4 * UJ_PER_WH, wh(wind=6, grid=3))
    assert flows_of(HOUR, with_grid, {}).wind_uj == UJ_PER_WH


def test_a_source_without_a_known_name_is_never_green() -> None:
    energy = HourEnergy(4 * UJ_PER_WH, wh(signal=2, wind=1, grid=1))
    supply, _ = supply_of(flows_of(HOUR, energy, {"wind": 1}), Carried())
    assert {name: amount for name, amount in supply.source_wh.items() if amount} == {
        "grid/unknown": 2,
        "grid/wind": 1,
        "wind": 1,
    }
    assert supply.green_wh == 1, "the green part of the grid belongs to others"


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["wind", "sun", "grid", "battery", "export", "x"]), AMOUNT),
    st.tuples(AMOUNT, AMOUNT, AMOUNT),
)
def test_any_figures_make_an_hour_and_no_more_green_energy_than_was_taken(
    supply_uj: dict[str, int], amounts: tuple[int, int, int]
) -> None:
    load_uj, charged_uj, stored_uj = amounts
    energy = HourEnergy(load_uj, supply_uj, charged_uj, stored_uj)
    flows = flows_of(HOUR, energy, {"coal": 1})
    supply, _ = supply_of(flows, Carried())
    taken = max(0, load_uj) + max(0, charged_uj) + max(0, supply_uj.get("export", 0))
    assert flows.wind_uj + flows.sun_uj <= taken
    assert supply.matched_wh <= supply.load_wh


def test_a_receipt_counts_with_its_share_of_idle_and_its_correction() -> None:
    correction = receipt(9, "lab", -1, corrects="r1")
    old = receipt(10, "lab", -1, corrects="of-an-earlier-hour")
    receipts = (*RECEIPTS, correction, old)
    loads = loads_of(period_of(receipts, idle_wh=3), receipts)
    assert [(one.id, one.energy_uj) for one in loads] == [
        ("r0", 2 * UJ_PER_WH),
        ("r1", 3 * UJ_PER_WH),
        ("r2", 0),
    ]


def test_what_was_carried_into_an_hour_is_not_matched_in_it() -> None:
    period = replace(period_of(RECEIPTS), carried_in_uj=2 * UJ_PER_WH)
    loads = loads_of(period, RECEIPTS)
    assert sum(one.energy_uj for one in loads) == UJ_PER_WH
    only_old = replace(period_of(RECEIPTS, idle_wh=1), carried_in_uj=3 * UJ_PER_WH)
    assert sum(one.energy_uj for one in loads_of(only_old, RECEIPTS)) == UJ_PER_WH


def test_the_operator_keeps_its_own_share() -> None:
    match = match_of(period_of(RECEIPTS, idle_wh=1, rest_wh=2))
    assert (match.receipts_uj, match.rest_uj) == (4 * UJ_PER_WH, 4 * UJ_PER_WH)
    assert (match.green_uj, match.sold_uj) == (4 * UJ_PER_WH, 2 * UJ_PER_WH)
    assert (match.gec_uj, match.gec_sold_uj) == (2 * UJ_PER_WH, UJ_PER_WH)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10**12), max_size=9), st.integers(0, 10**12), st.data())
def test_no_share_is_above_its_energy_over_several_matches(
    energies: list[int], rest_uj: int, data: st.DataObject
) -> None:
    loads = [ReceiptLoad(str(n), "", "lab", energy) for n, energy in enumerate(energies)]
    shares = HourShares(loads, sum(energies) + rest_uj)
    sums, given_uj = [0] * len(loads), 0
    for _ in range(3):
        green_uj = data.draw(st.integers(0, shares.grey_uj))
        gec_uj = data.draw(st.integers(0, shares.grey_uj - green_uj))
        parts = shares.add(green_uj, gec_uj)
        given_uj += green_uj + gec_uj
        sums = [old + one.green_uj + one.gec_uj for old, one in zip(sums, parts, strict=True)]
    assert all(part <= energy for part, energy in zip(sums, energies, strict=True))
    assert 0 <= given_uj - sum(sums) <= rest_uj
    with pytest.raises(MatchError, match="uJ that are not green"):
        shares.add(shares.grey_uj, 1)


def test_the_shares_of_an_hour_are_found_again_from_its_matches() -> None:
    period = period_of(RECEIPTS, idle_wh=1)
    first = match_of(period)
    shares = HourShares(loads_of(period, RECEIPTS), SUPPLY.load_uj)
    shares.add(first.green_uj, first.gec_uj)
    late = Used("mengxi", [(GEC, 1)])
    second = match_of_hour(period, SUPPLY, shares.add(0, UJ_PER_WH), late, first)
    found = check_hour([first, second], period, RECEIPTS)
    assert sum(one.green_uj for one in found) == first.sold_uj
    assert sum(one.gec_uj for one in found) == first.gec_sold_uj + second.gec_sold_uj
    assert green_shares([], period, RECEIPTS)[0].green_uj == 0
    for matches in ([second], [first, replace(second, before="0" * 64)]):
        with pytest.raises(MatchError, match="found another"):
            green_shares(matches, period, RECEIPTS)
    with pytest.raises(MatchError, match="asked for the root of its shares"):
        green_shares([first], period, RECEIPTS[:2])
    with pytest.raises(MatchError, match=f"hour {HOUR}: sold_uj, the sum of the shares"):
        check_hour([replace(first, sold_uj=first.sold_uj - 1)], period, RECEIPTS)


def test_a_receipt_proves_its_green_share() -> None:
    period = period_of(RECEIPTS)
    match = match_of(period)
    shares = green_shares([match], period, RECEIPTS)
    levels = [[one.leaf for one in shares]]
    levels.append([node_hash(levels[0][0], levels[0][1])])
    path = inclusion_proof(1, 3, lambda level, index: levels[level][index])
    check_green_share(match, shares[1], 1, path)
    with pytest.raises(ProofError):
        check_green_share(match, replace(shares[1], green_uj=shares[1].green_uj + 1), 1, path)
    assert leaf_hash(b"") not in path


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"green_wh": 5}, "asked for the 6 Wh of its certificates, found 5 Wh green"),
        ({"sold_uj": 5 * UJ_PER_WH}, "sold_uj: asked for 0 to"),
        ({"gec_sold_uj": -1}, "gec_sold_uj: asked for 0 to"),
        ({"zone": "mengdong"}, "asked to use it in mengdong, found it for mengxi"),
        ({"hour": HOUR + 1}, "certificate w: asked to use it in mengxi, found it for"),
        ({"certificates": {"x": 6}}, "certificate x: asked for it, found none"),
        ({"certificates": {"w": 6}}, "asked for at most 5 Wh, found 6 Wh used"),
        ({"load_wh": 5}, "asked for at most its load, 5 Wh, found 6 Wh"),
    ],
)
def test_a_match_that_does_not_hold_is_named(changes: dict[str, object], found: str) -> None:
    match = match_of(period_of(RECEIPTS))
    known = {each.id: each for each in (WIND, GEC)}
    assert check_matches([match], known) == {"w": 4, "g": 2}
    with pytest.raises(MatchError, match=found):
        check_matches([replace(match, **changes)], known)  # type: ignore[arg-type]


def test_a_wh_that_two_matches_use_is_named() -> None:
    match = match_of(period_of(RECEIPTS))
    twice = [match, replace(match, site="ulanqab")]
    with pytest.raises(MatchError, match="certificate w: asked for at most 5 Wh, found 8 Wh used"):
        check_matches(twice, {each.id: each for each in (WIND, GEC)})
