from __future__ import annotations

import pytest

from steppe.batch.job import JobTotals, RowCounts
from steppe.batch.row import Claim, RowResult, make_row
from steppe.batch.runner.progress import RateMeter, SurplusMeter
from steppe.batch.runner.tally import Tally


def result(number: int, tokens: int = 10, joules: float = 5.0) -> RowResult:
    return RowResult(number, str(number), 200, output_tokens=tokens, energy_j=joules)


def test_rates_are_those_of_the_last_half_minute() -> None:
    meter = RateMeter(0.0)
    meter.add(1.0, result(0))
    meter.add(40.0, result(1))
    meter.add(50.0, result(2, joules=25.0))
    rates = meter.rates(60.0)
    assert (rates.rows_per_s, rates.output_tps, rates.draw_w) == (2 / 30, 20 / 30, 1.0)
    assert rates.tokens_per_joule == pytest.approx(20 / 30)


def test_the_end_is_the_surer_the_more_rows_have_ended() -> None:
    few, many = RateMeter(0.0), RateMeter(0.0)
    for second in range(10):
        few.add(float(second), result(second))
        for _ in range(100):
            many.add(float(second), result(second))
    rough, fine = few.finish(10.0, 1000.0, 100), many.finish(10.0, 1000.0, 10_000)
    assert rough.at_epoch_s == fine.at_epoch_s == 1100.0
    assert rough.spread_s is not None
    assert fine.spread_s is not None
    assert rough.spread_s > 5 * fine.spread_s


def test_without_a_row_that_ended_nothing_is_expected() -> None:
    assert RateMeter(0.0).finish(10.0, 1000.0, 5).at_epoch_s is None


def test_surplus_is_supply_above_the_draw_of_all_others() -> None:
    meter = SurplusMeter()
    assert meter.share is None
    meter.add({}, 50.0, 10.0)
    assert meter.share is None
    meter.add({"supply_w": 180.0, "draw_w": 200.0}, 50.0, 10.0)
    assert meter.share == pytest.approx(0.6)
    meter.add({"supply_w": 100.0, "draw_w": 200.0}, 50.0, 10.0)
    assert meter.share == pytest.approx(0.3)


def test_the_tokens_that_are_left_follow_the_rows_that_have_ended() -> None:
    tally = Tally(RowCounts(total=10, waiting=10), JobTotals())
    body = {"max_tokens": 40, "prompt": "x" * 100}
    tally.see([Claim(make_row(0, "a", "/v1/completions", body))])
    prompt, output = tally.tokens_left()
    assert (20 <= prompt / 10 <= 40, output) == (True, 400)
    tally.add([RowResult(0, "a", 200, prompt_tokens=3, output_tokens=5)])
    assert tally.tokens_left() == (27, 45)
    tally.add([RowResult(1, "b", 400, error="no")])
    assert (tally.counts.completed, tally.counts.failed, tally.left) == (1, 1, 8)


def test_rows_of_embeddings_have_no_output() -> None:
    tally = Tally(RowCounts(total=2, waiting=2), JobTotals())
    tally.see([Claim(make_row(0, "a", "/v1/embeddings", {"input": "x"}))])
    assert tally.tokens_left()[1] == 0
