from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.errors import TraceError
from steppe.load.arrivals import (
    UNLIMITED,
    Arrival,
    LengthLimits,
    at_rate,
    mean_output_tokens,
    offered_rate,
    scale_lengths,
    stretch,
    until,
)

times = st.lists(st.floats(0, 1e6), min_size=2, max_size=50, unique=True).map(sorted)
lengths = st.integers(1, 100_000)
TRACE = Path("trace.csv")


def arrivals_at(*times_s: float) -> tuple[Arrival, ...]:
    return tuple(Arrival(at_s, 100, 10) for at_s in times_s)


@given(times, st.floats(0.01, 100))
def test_a_trace_brought_to_a_rate_has_that_rate_and_its_order(
    times_s: list[float], rate_rps: float
) -> None:
    if times_s[-1] - times_s[0] < 1e-3:
        return
    scaled = at_rate(arrivals_at(*times_s), rate_rps, TRACE)
    span_s = scaled[-1].at_s - scaled[0].at_s
    assert (len(scaled) - 1) / span_s == pytest.approx(rate_rps, rel=1e-6)
    assert [a.at_s for a in scaled] == sorted(a.at_s for a in scaled)


@given(lengths, lengths, st.floats(0.001, 100), lengths, lengths)
def test_scaled_lengths_stay_between_one_token_and_the_limits(
    prompt: int, output: int, factor: float, most_prompt: int, most_output: int
) -> None:
    limits = LengthLimits(most_prompt, most_output)
    (scaled,) = scale_lengths((Arrival(0.0, prompt, output),), factor, limits)
    assert 1 <= scaled.prompt_tokens <= most_prompt
    assert 1 <= scaled.output_tokens <= most_output


def test_lengths_scale_by_the_factor_and_round() -> None:
    (scaled,) = scale_lengths((Arrival(3.0, 1155, 211),), 1 / 8, LengthLimits())
    assert scaled == Arrival(3.0, 144, 26)


def test_lengths_that_overflow_are_clipped() -> None:
    (scaled,) = scale_lengths((Arrival(3.0, 1155, 211),), 1e308, LengthLimits(9, 8))
    assert scaled == Arrival(3.0, 9, 8)


def test_stretching_by_a_half_doubles_the_speed() -> None:
    assert stretch(arrivals_at(0.0, 4.0), 0.5) == arrivals_at(0.0, 2.0)


def test_until_keeps_arrivals_due_before_the_end() -> None:
    assert until(arrivals_at(0.0, 1.0, 2.0), 2.0) == arrivals_at(0.0, 1.0)


@pytest.mark.parametrize("times_s", [(), (1.0,)])
def test_fewer_than_two_requests_have_no_rate_and_stay_as_they_are(
    times_s: tuple[float, ...],
) -> None:
    assert at_rate(arrivals_at(*times_s), 2.0, TRACE) == arrivals_at(*times_s)


def test_a_trace_whose_requests_all_arrive_at_once_cannot_be_brought_to_a_rate() -> None:
    with pytest.raises(
        TraceError, match=r"^trace\.csv: asked for 2 requests/s, found 3 requests at"
    ):
        at_rate(arrivals_at(1.0, 1.0, 1.0), 2.0, TRACE)


def test_the_offered_rate_is_the_given_share_of_the_capacity() -> None:
    rate_rps = offered_rate(capacity_tps=400.0, utilisation=0.8, mean_output_tokens=26.4)
    assert rate_rps * 26.4 == pytest.approx(320.0)


def test_sizes_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        offered_rate(0.0, 0.8, 26.0)
    with pytest.raises(ValueError, match="length factor"):
        scale_lengths(arrivals_at(0.0), 0.0, LengthLimits())
    with pytest.raises(ValueError, match="at least one token"):
        LengthLimits(0, 1)
    with pytest.raises(TraceError, match="no arrivals"):
        mean_output_tokens(())


def test_the_cached_part_of_a_prompt_is_scaled_with_it_and_stays_below_it() -> None:
    each = Arrival(0.0, 1000, 10, cached_tokens=800)
    (half,) = scale_lengths((each,), 0.5, LengthLimits())
    assert (half.prompt_tokens, half.cached_tokens) == (500, 400)
    (cut,) = scale_lengths((each,), 1.0, LengthLimits(100, 10))
    assert (cut.prompt_tokens, cut.cached_tokens) == (100, 99)


def test_hashes_of_a_prompt_are_scaled_and_cut_with_it() -> None:
    arrival = Arrival(0.0, 1000, 10, hash_ids=(1, 2))
    (halved,) = scale_lengths([arrival], 0.5, UNLIMITED)
    assert (halved.prompt_tokens, halved.block_tokens, halved.hash_ids) == (500, 256, (1, 2))
    cut = LengthLimits(prompt_tokens=300).clip(arrival)
    assert cut.hash_ids == (1,)
