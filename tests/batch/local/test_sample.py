from __future__ import annotations

import math
import random

import pytest

from steppe.batch.local.sample import RowSample, draw_sample, estimate
from steppe.batch.row import BadRow, Row, RowResult, make_row
from steppe.errors import UsageError


def row(number: int) -> Row:
    return make_row(number, str(number), "/v1/completions", {"prompt": "x", "model": "m"})


def result(number: int, tokens: int, joules: float = 2.0, status: int = 200) -> RowResult:
    return RowResult(
        number,
        str(number),
        status,
        prompt_tokens=7,
        output_tokens=tokens,
        energy_j=joules,
        energy_source="emulated",
        started_epoch_s=100.0,
        ended_epoch_s=110.0,
    )


def test_each_row_has_the_same_chance_and_bad_lines_are_counted() -> None:
    drawn = [0] * 20
    for seed in range(2000):
        rows = [row(number) for number in range(20)]
        found = draw_sample([*rows, BadRow(20, "row-20", "torn")], 5, seed)
        assert (found.total, found.bad, len(found.rows)) == (20, 1, 5)
        assert list(found.rows) == sorted(found.rows, key=lambda each: each.number)
        for each in found.rows:
            drawn[each.number] += 1
    assert all(420 < times < 580 for times in drawn)  # 500 is expected; seeds are fixed


def test_a_sample_of_all_rows_is_exact() -> None:
    sample = RowSample(tuple(row(number) for number in range(3)), 3, 0)
    found = estimate(sample, [result(number, 10 * number) for number in range(3)], None)
    assert found.output_tokens.value == found.output_tokens.low == found.output_tokens.high == 30
    assert found.prompt_tokens.value == 21
    assert found.energy_j is not None
    assert (found.energy_j.value, found.energy_source) == (6.0, "emulated")
    assert found.duration_s.value == pytest.approx(10.0)


def test_nine_of_ten_intervals_contain_the_truth() -> None:
    rng = random.Random(3)
    tokens = [rng.randrange(10, 200) for _ in range(400)]
    inside = 0
    for seed in range(300):
        sample = draw_sample([row(number) for number in range(400)], 30, seed)
        answers = [result(each.number, tokens[each.number]) for each in sample.rows]
        found = estimate(sample, answers, None).output_tokens
        inside += found.low <= sum(tokens) <= found.high
    assert 255 <= inside <= 285  # 270 are expected; seeds are fixed


def test_the_gateway_s_speed_wins_over_that_of_the_sample() -> None:
    sample = RowSample((row(0), row(1)), 100, 0)
    found = estimate(sample, [result(0, 10), result(1, 10)], 50.0)
    assert (found.duration_s.value, found.is_gateway_speed) == (20.0, True)


def test_one_answer_says_nothing_of_the_spread() -> None:
    found = estimate(RowSample((row(0),), 100, 0), [result(0, 10)], None)
    assert (found.output_tokens.low, found.output_tokens.high) == (0.0, math.inf)
    shown = found.shown()["output_tokens"]
    assert shown == {"value": 1000.0, "low": 0.0, "high": None}


def test_a_sample_without_an_answer_is_one_line_with_its_reasons() -> None:
    sample = RowSample((row(0),), 1, 0)
    with pytest.raises(UsageError, match="asked for a sample of answers, found none: status 404"):
        estimate(sample, [result(0, 0, status=404)], None)
