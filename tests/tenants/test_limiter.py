from __future__ import annotations

import math

import pytest

from steppe.tenants.limiter import NO_TOKENS, RequestSize, Taken, TenantLimiter
from steppe.tenants.tenant import Tenant, TenantLimits
from steppe.tenants.usage import LimitReachedError


def limited(**limits: float) -> Tenant:
    return Tenant("a", TenantLimits(**limits))  # type: ignore[arg-type]


def refused(
    limiter: TenantLimiter, tenant: Tenant, now_s: float, size: RequestSize
) -> LimitReachedError:
    with pytest.raises(LimitReachedError) as caught:
        limiter.admit(tenant, now_s, size)
    return caught.value


def test_a_tenant_without_limits_is_never_refused() -> None:
    limiter = TenantLimiter()
    for _ in range(1000):
        limiter.admit(Tenant("a"), 0.0, RequestSize(1000, 1000))


def test_requests_of_a_minute_are_limited_until_they_leave_it() -> None:
    limiter, tenant = TenantLimiter(), limited(requests_per_minute=2)
    limiter.admit(tenant, 0.0, NO_TOKENS)
    limiter.admit(tenant, 10.0, NO_TOKENS)
    error = refused(limiter, tenant, 20.0, NO_TOKENS)
    assert error.limit == "requests_per_minute"
    assert 40.0 <= error.retry_after_s <= 41.0
    limiter.admit(tenant, 20.0 + error.retry_after_s, NO_TOKENS)
    refused(limiter, tenant, 62.0, NO_TOKENS)


def test_tenants_do_not_share_their_limits() -> None:
    limiter = TenantLimiter()
    limits = TenantLimits(requests_per_minute=1)
    limiter.admit(Tenant("a", limits), 0.0, NO_TOKENS)
    limiter.admit(Tenant("b", limits), 0.0, NO_TOKENS)
    refused(limiter, Tenant("a", limits), 0.0, NO_TOKENS)


def test_tokens_are_charged_at_admission_and_settled_by_real_usage() -> None:
    limiter, tenant = TenantLimiter(), limited(tokens_per_minute=100)
    charge = limiter.admit(tenant, 0.0, RequestSize(20, 60))
    assert limiter.states(tenant, 0.0)["tokens"].remaining == 20
    refused(limiter, tenant, 1.0, RequestSize(10, 20))
    limiter.end("r", charge, 2.0, Taken(22, 10))
    assert limiter.states(tenant, 2.0)["tokens"].remaining == 68
    limiter.admit(tenant, 2.0, RequestSize(10, 20))


def test_tokens_beyond_the_estimate_count_when_the_request_ends() -> None:
    limiter, tenant = TenantLimiter(), limited(tokens_per_minute=100)
    charge = limiter.admit(tenant, 0.0, RequestSize(20, 10))
    limiter.end("r", charge, 50.0, Taken(40, 10))
    assert limiter.states(tenant, 50.0)["tokens"].remaining == 50
    assert limiter.states(tenant, 70.0)["tokens"].remaining == 80


def test_a_stream_without_usage_is_settled_by_the_books() -> None:
    limiter, tenant = TenantLimiter(), limited(tokens_per_minute=100)
    charge = limiter.admit(tenant, 0.0, RequestSize(20, 60))
    limiter.end("r", charge, 2.0, Taken())
    assert limiter.states(tenant, 2.0)["tokens"].remaining == 20
    limiter.settle("r", 4.0, Taken(21, 9, 5.0))
    assert limiter.states(tenant, 4.0)["tokens"].remaining == 70
    limiter.settle("r", 5.0, Taken(90, 9, 5.0))
    assert limiter.states(tenant, 5.0)["tokens"].remaining == 70


def test_a_request_above_the_whole_limit_never_fits() -> None:
    limiter, tenant = TenantLimiter(), limited(tokens_per_minute=100)
    error = refused(limiter, tenant, 0.0, RequestSize(90, 20))
    assert error.retry_after_s == math.inf
    assert "never fits" in str(error)


def test_open_requests_are_limited_until_one_ends() -> None:
    limiter, tenant = TenantLimiter(), limited(concurrency=2)
    first = limiter.admit(tenant, 0.0, NO_TOKENS)
    limiter.admit(tenant, 0.0, NO_TOKENS)
    assert refused(limiter, tenant, 0.0, NO_TOKENS).limit == "concurrency"
    limiter.end("r", first, 1.0, Taken(0, 0, 0.0))
    limiter.admit(tenant, 1.0, NO_TOKENS)


def test_energy_of_an_hour_is_limited_by_what_the_books_say() -> None:
    limiter, tenant = TenantLimiter(), limited(joules_per_hour=100.0)
    first = limiter.admit(tenant, 0.0, RequestSize(50, 50))
    limiter.end("r", first, 2.0, Taken(50, 50))
    limiter.settle("r", 4.0, Taken(50, 50, 90.0))
    assert limiter.usage("a").energy_j(4.0) == (90.0, 90.0)
    error = refused(limiter, tenant, 5.0, RequestSize(10, 10))
    assert error.limit == "joules_per_hour"
    assert 3590.0 <= error.retry_after_s <= 3660.0
    limiter.admit(tenant, 5.0 + error.retry_after_s, RequestSize(10, 10))


def test_energy_is_charged_by_the_joules_per_token_so_far_until_the_books_know() -> None:
    limiter, tenant = TenantLimiter(), limited(joules_per_day=1000.0)
    first = limiter.admit(tenant, 0.0, RequestSize(50, 50))
    limiter.end("r", first, 2.0, Taken(50, 50))
    limiter.settle("r", 4.0, Taken(50, 50, 200.0))
    for _ in range(8):
        limiter.admit(tenant, 5.0, RequestSize(20, 30))
    assert limiter.usage("a").energy_j(5.0)[1] == pytest.approx(1000.0)
    assert refused(limiter, tenant, 5.0, RequestSize(20, 30)).limit == "joules_per_day"


def test_a_request_that_no_replica_had_took_nothing_but_counts_as_one() -> None:
    limiter, tenant = TenantLimiter(), limited(tokens_per_minute=100, requests_per_minute=5)
    charge = limiter.admit(tenant, 0.0, RequestSize(20, 60))
    limiter.end("", charge, 1.0, Taken(0, 0, 0.0))
    states = limiter.states(tenant, 1.0)
    assert (states["tokens"].remaining, states["requests"].remaining) == (100, 4)


def test_an_output_without_a_maximum_is_charged_like_the_longest_recent_one() -> None:
    limiter, tenant = TenantLimiter(), limited(tokens_per_minute=10_000)
    charge = limiter.admit(tenant, 0.0, RequestSize(10))
    assert charge.tokens == 10 + 1024
    limiter.end("r", charge, 1.0, Taken(10, 3000))
    assert limiter.admit(tenant, 100.0, RequestSize(10)).tokens == 10 + 3000
    assert limiter.expected_tokens(RequestSize(10)) < 400


def test_an_output_without_a_maximum_fits_when_nothing_else_was_used() -> None:
    limiter, tenant = TenantLimiter(), limited(tokens_per_minute=500)
    assert limiter.admit(tenant, 0.0, RequestSize(100)).tokens == 500


def test_requests_that_the_books_never_settle_are_forgotten() -> None:
    limiter, tenant = TenantLimiter(), Tenant("a")
    for second in range(2000):
        limiter.end(f"r{second}", limiter.admit(tenant, second, NO_TOKENS), second, Taken())
    assert len(limiter._unsettled) <= 601
