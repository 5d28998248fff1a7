"""The arithmetic of the benchmark of scale."""

from __future__ import annotations

import itertools

import pytest

from scale_figures import rank, spread
from scale_simulator import Cost, arrivals, config_of, row_of


@pytest.mark.parametrize(
    ("share", "count", "index"),
    [(0.5, 1, 0), (0.5, 4, 1), (0.5, 5, 2), (0.99, 100, 98), (0.99, 10, 9), (1.0, 7, 6)],
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    share: float, count: int, index: int
) -> None:
    assert rank(share, count) == index


def test_the_spread_of_values_does_not_depend_on_their_order() -> None:
    found = spread([3.0, 1.0, 2.0, 10.0])
    assert found == {"n": 4.0, "p50": 2.0, "p99": 10.0, "most": 10.0}
    assert spread([10.0, 2.0, 3.0, 1.0]) == found


def test_nothing_measured_has_no_spread() -> None:
    with pytest.raises(ValueError, match="found none"):
        spread([])


def test_the_cost_of_an_hour_is_that_of_a_shorter_run_in_proportion() -> None:
    cost = Cost(
        ticks_s=[0.1, 0.3], cpu_s=2.0, made_s=1.0, peak_bytes=300, base_bytes=100, requests=7
    )
    row = row_of(100, 60.0, cost)
    assert row["cpu_s_per_simulated_hour"] == 120.0
    assert row["share_of_ticks"] == pytest.approx(0.2)
    assert row["bytes_per_replica"] == 2.0


def test_requests_come_in_order_and_in_proportion_to_the_replicas() -> None:
    found = list(arrivals(replicas=50, duration_s=60.0))
    times_s = [arrival.at_s for arrival in found]
    assert times_s == sorted(times_s)
    assert times_s[-1] <= 60.0
    assert len(found) == pytest.approx(0.43 * 50 * 60, rel=0.1)
    assert list(itertools.islice(arrivals(50, 60.0), 3)) == found[:3], "the same each time"


def test_the_supply_of_the_benchmark_grows_with_its_replicas() -> None:
    small, large = (config_of(n, 60.0).power.supply for n in (10, 20))
    assert [2 * getattr(s, "rated_w", getattr(s, "watts", 0)) for s in small] == [
        getattr(s, "rated_w", getattr(s, "watts", 0)) for s in large
    ]
