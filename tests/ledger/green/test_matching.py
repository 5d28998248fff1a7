"""An hour: what is matched, whose it is, what is sold of it, and how green that was."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.test_receipt import RECEIPT

from steppe.errors import UsageError
from steppe.ledger.green.books import GreenError
from steppe.ledger.green.certificates import Certificate
from steppe.ledger.green.matching import OPERATOR, HourMatch, energy_of, match_hour, shares_of
from steppe.ledger.green.register import Register
from steppe.ledger.green.sales import GreenSales, OversoldError
from steppe.ledger.green.score import PPM, Score, site_score, tenant_scores
from steppe.ledger.green.supply import UJ_PER_WH, HourSupply

ENERGY = {"a": UJ_PER_WH, "b": 2 * UJ_PER_WH}
SUPPLY = HourSupply(100, 6, {"wind": 2, "battery/sun": 1, "grid/coal": 3}, 6 * UJ_PER_WH, 0)
BOUGHT = Certificate("farm-1", "granular", "hohhot", "farm", "mengxi", "wind", 2, 100, 101)


def matched_hour(register: Register) -> HourMatch:
    return match_hour("hohhot", "mengxi", SUPPLY, ENERGY, register)


def test_an_hour_is_matched_up_to_its_own_green_supply() -> None:
    match = matched_hour(Register())
    assert match.green_wh == SUPPLY.matched_wh == 3
    assert match.shares_uj == {
        "a": UJ_PER_WH // 2,
        "b": UJ_PER_WH,
        OPERATOR: 3 * UJ_PER_WH // 2,
    }


def test_certificates_cover_load_that_the_own_supply_does_not() -> None:
    register = Register()
    register.issue(BOUGHT)
    match = matched_hour(register)
    assert match.green_wh == 5
    assert sum(match.shares_uj.values()) == match.green_uj


def test_what_a_gec_covers_is_not_green_by_the_hour() -> None:
    register, sales = Register(), GreenSales()
    register.issue(Certificate("g1", "gec", "hohhot", "park", "mengxi", "sun", 1_000_000, 90, 120))
    match = matched_hour(register)
    assert (match.green_wh, match.gec_wh) == (3, 3)
    assert sum(match.gec_shares_uj.values()) == match.gec_uj
    loads = {**ENERGY, OPERATOR: 3 * UJ_PER_WH}
    assert all(match.shares_uj[key] + match.gec_shares_uj[key] <= loads[key] for key in loads)
    assert site_score([match]).score_ppm == PPM // 2
    sales.offer(match)
    sales.sell("r1", "hohhot", 100, "lab", match.green_uj)
    with pytest.raises(OversoldError, match="as green, found 0 uJ"):
        sales.sell("r2", "hohhot", 100, "lab", 1)
    assert sales.sell("r2", "hohhot", 100, "lab", match.gec_uj, basis="gec")
    assert sales.sold_uj("hohhot", 100, "gec") == match.gec_uj


def test_the_same_hour_again_changes_nothing() -> None:
    register = Register()
    first, again = matched_hour(register), matched_hour(register)
    assert again == replace(first, movements=[])


@settings(max_examples=40)
@given(
    st.dictionaries(st.text("abc", min_size=1), st.integers(0, 10 * UJ_PER_WH), max_size=9),
    st.integers(0, 10 * UJ_PER_WH),
    st.data(),
)
def test_shares_sum_to_the_match_and_none_is_above_its_energy(
    energy: dict[str, int], rest_uj: int, data: st.DataObject
) -> None:
    load_uj = sum(energy.values()) + rest_uj
    supply = HourSupply(1, load_uj // UJ_PER_WH, {}, load_uj, 0)
    green_wh = data.draw(st.integers(0, supply.load_wh))
    shares = shares_of(green_wh, supply, energy)
    assert sum(shares.values()) == green_wh * UJ_PER_WH
    assert all(shares[key] <= amount for key, amount in energy.items())
    assert shares[OPERATOR] <= rest_uj


def test_receipts_above_the_load_are_refused_before_anything_moves() -> None:
    register = Register()
    with pytest.raises(UsageError, match=r"hour 100: asked for receipts of at most .* 7 uJ more"):
        match_hour("hohhot", "mengxi", SUPPLY, {"a": 6 * UJ_PER_WH + 7}, register)
    assert not register.movements
    with pytest.raises(UsageError, match="asked to share 7 Wh, found a load of 6 Wh"):
        shares_of(7, SUPPLY, ENERGY)


def test_the_energy_of_a_receipt_has_its_idle_share_and_its_corrections() -> None:
    first = replace(RECEIPT, id="a", energy_uj=100, idle_uj=7)
    correction = replace(RECEIPT, id="b", energy_uj=-20, corrects="a")
    assert energy_of([first, correction]) == {"a": 87}


def test_no_more_is_sold_than_was_matched() -> None:
    sales = GreenSales()
    assert sales.offer(matched_hour(Register()))
    assert sales.sell("r1", "hohhot", 100, "lab", 2 * UJ_PER_WH)
    assert not sales.sell("r1", "hohhot", 100, "lab", 2 * UJ_PER_WH)
    with pytest.raises(OversoldError, match=r"hour 100 as green, found 3600000000 uJ \(1 Wh\)"):
        sales.sell("r2", "hohhot", 100, "lab", UJ_PER_WH + 1)
    assert sales.sell("r2", "hohhot", 100, "lab", UJ_PER_WH)
    assert sales.free_uj("hohhot", 100) == 0
    assert sales.sold_uj("hohhot", 100) == 3 * UJ_PER_WH
    assert not sales.sell("r2", "hohhot", 100, "lab", UJ_PER_WH)


def test_a_sale_is_made_once_and_an_hour_is_offered_once() -> None:
    sales, match = GreenSales(), matched_hour(Register())
    sales.offer(match)
    assert not sales.offer(match)
    with pytest.raises(GreenError, match="deposit green:hohhot:100"):
        sales.offer(replace(match, green_wh=4))
    sales.sell("r1", "hohhot", 100, "lab", 5)
    with pytest.raises(GreenError, match=r"transfer green:r1: asked to move 6 .* found 5"):
        sales.sell("r1", "hohhot", 100, "lab", 6)
    assert not sales.offer(replace(match, hour=101, green_wh=0))
    with pytest.raises(OversoldError, match=r"found 0 uJ \(0 Wh\)"):
        sales.sell("r2", "hohhot", 101, "lab", 1)


def test_sales_are_made_again_from_their_movements() -> None:
    sales = GreenSales()
    sales.offer(matched_hour(Register()))
    sales.sell("r1", "hohhot", 100, "lab", 5)
    assert GreenSales(sales.movements).free_uj("hohhot", 100) == 3 * UJ_PER_WH - 5
    with pytest.raises(GreenError, match="found 0"):
        GreenSales(sales.movements[1:])


def test_the_score_of_a_site_is_its_matched_share_of_all_hours() -> None:
    match = matched_hour(Register())
    assert site_score([match, replace(match, green_wh=0)]).score_ppm == PPM // 4
    assert site_score([]).score_ppm == 0


def test_the_score_of_a_tenant_is_that_of_its_receipts() -> None:
    green = replace(RECEIPT, id="a", energy_uj=60, idle_uj=20, green_uj=80, output_tokens=40)
    grey = replace(RECEIPT, id="b", energy_uj=320, green_uj=0, output_tokens=10)
    other = replace(RECEIPT, id="c", tenant="other", energy_uj=10, green_uj=5, output_tokens=8)
    correction = replace(other, id="d", energy_uj=10, green_uj=0, output_tokens=0, corrects="c")
    scores = tenant_scores([green, grey, other, correction])
    assert scores["lab"] == Score(400, 80, 50, 40 * PPM)
    assert scores["lab"].score_ppm == PPM // 5
    assert scores["other"].score_ppm == PPM // 4
    assert scores["other"].green_micro_tokens == 2 * PPM


def test_tokens_of_a_green_kwh_are_those_that_its_energy_made() -> None:
    score = tenant_scores(
        [replace(RECEIPT, energy_uj=2_000 * UJ_PER_WH, green_uj=500 * UJ_PER_WH, output_tokens=80)]
    )["lab"]
    assert score.tokens_per_green_kwh == 40  # 80 tokens in 2 kWh, whichever part is green
    assert Score(5, 0, 9, 0).tokens_per_green_kwh == 0
