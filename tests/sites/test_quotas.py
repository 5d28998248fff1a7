from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.sites.quotas import BURST_S, OWED_S, QuotaLease, Quotas

NAMES = ("a", "b", "c")
CLASS = "m", "interactive"


def lease(output_tps: float, granted_s: float = 0.0, ramp_tps2: float = 100.0) -> QuotaLease:
    return QuotaLease("b", *CLASS, output_tps, ramp_tps2, granted_s, 30.0)


def granted(*leases: QuotaLease, until_s: Iterable[int] = ()) -> Quotas:
    quotas = Quotas(NAMES, 0.0)
    quotas.grant(leases)
    for now_s in until_s:
        quotas.advance(float(now_s))
    return quotas


def test_a_quota_rises_with_its_ramp_and_falls_at_once() -> None:
    quotas = granted(lease(250.0))
    rates = []
    for now_s in (1.0, 2.0, 3.0, 4.0):
        quotas.advance(now_s)
        rates.append(quotas.rate_of("b", *CLASS))
    assert rates == pytest.approx([100.0, 200.0, 250.0, 250.0])
    quotas.grant([lease(50.0, 4.0)])
    quotas.advance(5.0)
    assert quotas.rate_of("b", *CLASS) == pytest.approx(50.0)


def test_a_lease_that_is_not_renewed_fades_over_its_last_third() -> None:
    quotas = granted(lease(250.0), until_s=range(21))
    assert quotas.rate_of("b", *CLASS) == pytest.approx(250.0)
    quotas.advance(25.0)
    assert quotas.rate_of("b", *CLASS) == pytest.approx(125.0)
    quotas.advance(30.0)
    assert quotas.left_of(*CLASS).tolist() == [math.inf, 0.0, 0.0]


def test_a_request_larger_than_a_full_quota_leaves_when_it_is_full() -> None:
    tokens = 2.0 * BURST_S * 20.0
    quotas = granted(lease(20.0), until_s=range(5))
    assert quotas.allow(*CLASS, tokens).tolist() == [True, False, False]
    quotas.grant([lease(20.0, 5.0)])
    for now_s in range(5, 20):
        quotas.advance(float(now_s))
    assert quotas.allow(*CLASS, tokens).tolist() == [True, True, False]
    assert quotas.allow(*CLASS, 20.0 * (BURST_S + OWED_S) + 1.0).tolist() == [True, False, False]
    quotas.spend("b", *CLASS, tokens)
    assert quotas.allow(*CLASS, 1.0).tolist() == [True, False, False]


def test_a_lease_that_is_renewed_holds_on() -> None:
    quotas = granted(lease(250.0), until_s=range(15))
    quotas.grant([lease(250.0, 14.0)])
    quotas.advance(30.0)
    assert quotas.rate_of("b", *CLASS) == pytest.approx(250.0)


def test_without_a_planner_only_this_site_serves() -> None:
    quotas = Quotas(NAMES, 0.0)
    assert quotas.left_of(*CLASS).tolist() == [math.inf, 0.0, 0.0]
    assert quotas.rate_of("b", *CLASS) == 0.0


def test_tokens_that_are_not_sent_are_kept_for_a_while() -> None:
    quotas = granted(lease(10.0))
    for now_s in range(1, 200):
        quotas.grant([lease(10.0, float(now_s))])
        quotas.advance(float(now_s))
    assert quotas.left_of(*CLASS)[1] == pytest.approx(10.0 * BURST_S)


def test_tokens_of_a_refused_request_are_given_back() -> None:
    quotas = granted(lease(100.0), until_s=range(10))
    before = quotas.left_of(*CLASS).copy()
    quotas.spend("b", *CLASS, 40.0)
    quotas.spend("b", *CLASS, -40.0)
    assert np.array_equal(quotas.left_of(*CLASS), before)


def test_quotas_of_classes_and_models_are_apart() -> None:
    quotas = granted(lease(100.0), until_s=range(10))
    assert quotas.left_of("m", "standard")[1] == 0.0
    assert quotas.left_of("n", "interactive")[1] == 0.0


def test_a_clock_that_steps_back_changes_nothing() -> None:
    quotas = granted(lease(100.0), until_s=[5, 6])
    before = quotas.left_of(*CLASS).copy()
    quotas.advance(2.0)
    assert np.array_equal(quotas.left_of(*CLASS), before)


@pytest.mark.parametrize("site", ["a", "x"])
def test_a_lease_to_this_site_or_an_unknown_one_is_refused(site: str) -> None:
    with pytest.raises(UsageError, match=f"found {site}"):
        granted(QuotaLease(site, *CLASS, 1.0, 1.0, 0.0, 30.0))


@pytest.mark.parametrize("lasts_s", [9.0, 61.0, math.nan])
def test_a_lease_lasts_10_to_60_s(lasts_s: float) -> None:
    with pytest.raises(UsageError, match="asked for 10 to 60 s"):
        QuotaLease("b", *CLASS, 1.0, 1.0, 0.0, lasts_s)


@pytest.mark.parametrize("output_tps", [-1.0, math.inf, math.nan])
def test_a_lease_of_an_absurd_rate_is_refused(output_tps: float) -> None:
    with pytest.raises(UsageError, match="asked for numbers"):
        lease(output_tps)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 500.0), st.floats(0.0, 3000.0)), min_size=1, max_size=40))
def test_what_is_sent_never_exceeds_the_leases(seconds: list[tuple[float, float]]) -> None:
    quotas = Quotas(NAMES, 0.0)
    allowed = sent = 0.0
    for number, (output_tps, wanted) in enumerate(seconds):
        quotas.grant([lease(output_tps, float(number))])
        quotas.advance(number + 1.0)
        allowed += output_tps
        if quotas.left_of(*CLASS)[1] >= wanted:
            quotas.spend("b", *CLASS, wanted)
            sent += wanted
        assert sent <= allowed + 1e-6
        assert quotas.rate_of("b", *CLASS) <= min(output_tps, 100.0 * (number + 1)) + 1e-9


def test_a_conversation_may_use_thirty_seconds_of_a_quota_before_its_time() -> None:
    quotas = granted(lease(250.0), until_s=range(12))
    quotas.spend("b", *CLASS, 2500.0)
    assert quotas.left_of(*CLASS)[1] < 200.0
    assert quotas.may_owe("b", *CLASS, 200.0)
    quotas.spend("b", *CLASS, OWED_S * 250.0)
    assert not quotas.may_owe("b", *CLASS, 200.0)


def test_a_conversation_goes_on_nowhere_without_a_lease_but_here() -> None:
    quotas = Quotas(NAMES, 0.0)
    assert [quotas.may_owe(name, *CLASS, 200.0) for name in NAMES] == [True, False, False]
    quotas = granted(lease(250.0), until_s=range(12))
    quotas.advance(30.0)
    assert [quotas.may_owe(name, *CLASS, 200.0) for name in NAMES] == [True, False, False]


def test_tokens_are_kept_for_as_long_as_is_asked_for() -> None:
    quotas = Quotas(NAMES, 0.0, burst_s=40.0)
    quotas.grant([replace(lease(250.0), lasts_s=60.0)])
    for now_s in range(38):
        quotas.advance(float(now_s))
    assert 10.0 * 250.0 < quotas.left_of(*CLASS)[1] <= 40.0 * 250.0
