"""How green something was."""

from __future__ import annotations

from dataclasses import replace

from tests.ledger.green.test_match import MATCH
from tests.ledger.test_receipt import RECEIPT

from steppe.ledger.green.score import PPM, Score, site_score, tenant_scores
from steppe.ledger.green.supply import UJ_PER_WH


def test_the_score_of_a_site_is_its_matched_share_of_all_hours_without_gecs() -> None:
    grey = replace(MATCH, hour=490_001, green_wh=0)
    assert site_score([MATCH, grey]).score_ppm == PPM // 4
    assert site_score([]).score_ppm == 0


def test_a_later_match_adds_green_energy_and_no_load() -> None:
    late = replace(MATCH, number=1, green_wh=2)
    assert site_score([MATCH, late]).score_ppm == 6 * PPM // 8


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
