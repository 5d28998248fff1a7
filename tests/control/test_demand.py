from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.demand import MEMORY_S, PRIOR_TOKENS, Demand, Traffic

PACE_TPS = 10.0


def day_of(rps: float, mean_tokens: float, seconds: int) -> list[Traffic]:
    """Return the totals of a fleet that begins empty and decodes every request at once."""
    rng = random.Random(5)
    lengths: list[tuple[float, float]] = []
    totals = []
    for second in range(seconds):
        now_s = float(second)
        done = [min(tokens, PACE_TPS * (now_s - at_s)) for at_s, tokens in lengths]
        answered = sum(d >= t for d, (_, t) in zip(done, lengths, strict=True))
        totals.append(Traffic(now_s, len(lengths), answered, round(sum(done))))
        lengths += [(now_s, rng.expovariate(1 / mean_tokens)) for _ in range(round(rps))]
    return totals


def test_before_any_answer_has_ended_answers_are_taken_to_be_of_usual_length() -> None:
    demand = Demand()
    demand.update(Traffic(0.0, 0, 0, 0))
    assert demand.update(Traffic(2.0, 10, 0, 0)).tps == 5 * PRIOR_TOKENS


@pytest.mark.parametrize("mean_tokens", [30.0, 200.0, 900.0])
def test_the_short_answers_that_end_first_do_not_make_the_others_short(mean_tokens: float) -> None:
    demand, rps = Demand(), 50.0
    for totals in day_of(rps, mean_tokens, 120):
        told_tps = demand.update(totals).tps
        if totals.now_s >= 20.0:
            assert told_tps == pytest.approx(rps * mean_tokens, rel=0.25)
    assert told_tps == pytest.approx(rps * mean_tokens, rel=0.1)


def test_a_change_of_the_load_is_followed_within_its_memory() -> None:
    demand, now_s, arrived, answered, tokens = Demand(), 0.0, 0, 0, 0
    for rps, length in ((5, 100), (20, 30)):
        for _ in range(round(2 * MEMORY_S)):
            now_s, arrived = now_s + 1.0, arrived + rps
            answered, tokens = answered + rps, tokens + rps * length
            told_tps = demand.update(Traffic(now_s, arrived, answered, tokens)).tps
        assert told_tps == pytest.approx(rps * length)


def test_a_fleet_that_answers_seldom_remembers_further_back() -> None:
    demand = Demand()
    for second in range(2000):
        answered = second // 10
        told_tps = demand.update(Traffic(float(second), answered, answered, 40 * answered)).tps
    assert told_tps == pytest.approx(0.1 * 40, rel=0.15)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 999)), min_size=1),
    st.integers(0, 10_000),
)
def test_an_estimate_is_never_negative_and_no_higher_than_arrivals_of_all_tokens(
    steps: list[tuple[int, int, int]], begun: int
) -> None:
    demand = Demand()
    arrived = answered = tokens = begun  # as when a controller begins anew
    for second, (more, ended, sampled) in enumerate(steps):
        arrived, answered, tokens = arrived + more, answered + ended, tokens + sampled
        told_tps = demand.update(Traffic(float(second), arrived, answered, tokens)).tps
        assert 0.0 <= told_tps <= (arrived - begun) * max(PRIOR_TOKENS, tokens - begun + 1)


def test_totals_that_begin_anew_are_no_negative_demand() -> None:
    demand, told_tps = Demand(), []
    for second in range(400):
        requests = 10 * (second if second < 200 else second - 200)
        told_tps.append(
            demand.update(Traffic(float(second), requests, requests, 2000 * second)).tps
        )
    assert min(told_tps[20:]) >= 0.0
    assert max(told_tps[20:]) < 3 * 2000
    assert told_tps[-1] == pytest.approx(2000, rel=0.05)


def test_what_may_wait_is_told_apart() -> None:
    demand = Demand()
    demand.update(Traffic(0.0, 0, 0, 0))
    asked = demand.update(Traffic(5.0, 100, 100, 4000, deferrable_arrived=25, deferrable_waiting=7))
    assert asked.tps == pytest.approx(100 / 5 * 40)
    assert asked.deferrable.tps == pytest.approx(asked.tps / 4)
    assert asked.deferrable.waiting == 7
    assert asked.deferrable.tokens == pytest.approx(7 * 40)
