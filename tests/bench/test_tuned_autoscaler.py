"""An autoscaler that was tuned to its day: the peer of `save_energy` that knows the day."""

from __future__ import annotations

from typing import Any

import pytest


def _row(
    policy: str, locked_mhz: int | None, tokens_per_joule: float, attained: float | None
) -> Any:
    return {
        "happening": "no budget",
        "policy": policy,
        "locked_mhz": locked_mhz,
        "fill": None if locked_mhz is None else 0.8,
        "output_tokens_per_joule": tokens_per_joule,
        "slo_attainment": attained,
    }


def test_the_best_clock_is_the_cheapest_whose_users_are_served_as_well(bench: Any) -> None:
    rows = [
        _row("full_clocks", None, 1.0, 1.0),
        _row("save_energy", None, 2.0, 0.999),
        _row("reactive", 990, 1.9, 0.9),
        _row("reactive", 1200, 1.5, 0.996),
        _row("reactive", 1980, 1.2, 1.0),
    ]
    (found,) = bench("tuned_autoscaler").beside(rows)
    assert found["locked_mhz"] == 1200
    assert found["joules_per_token_saved"] == pytest.approx(0.25)


@pytest.mark.parametrize("attained", [0.9, None])
def test_nothing_is_saved_where_users_are_served_worse(bench: Any, attained: float | None) -> None:
    rows = [
        _row("full_clocks", None, 1.0, 1.0),
        _row("save_energy", None, 2.0, attained),
        _row("reactive", 1980, 1.2, 1.0),
    ]
    (found,) = bench("tuned_autoscaler").beside(rows)
    assert found["joules_per_token_saved"] is None
    assert found["slo_attainment"] == attained


def test_where_no_autoscaler_serves_as_well_none_is_the_best(bench: Any) -> None:
    rows = [
        _row("full_clocks", None, 1.0, 1.0),
        _row("save_energy", None, 2.0, 1.0),
        _row("reactive", 1980, 1.2, 0.9),
    ]
    (found,) = bench("tuned_autoscaler").beside(rows)
    assert found["locked_mhz"] is found["joules_per_token_saved"] is None


@pytest.mark.slow
def test_each_clock_is_tried_and_less_of_it_costs_less(bench: Any) -> None:
    policies, tuned_autoscaler = bench("policies"), bench("tuned_autoscaler")
    fleet = policies.make_bench(policies.Size("8b", 2, 60.0))
    happening = policies.scenarios.ample_and_spare(fleet.full_w, 60.0)
    full, saving, *ones = tuned_autoscaler.rows_of(fleet, happening, fills=(0.8,))
    assert (full["policy"], saving["policy"]) == ("full_clocks", "save_energy")
    clocks = [point.clock_mhz for point in fleet.frontier.full_batch.points]
    assert [row["locked_mhz"] for row in ones] == clocks
    middle = ones[len(ones) // 2]
    assert middle["output_tokens_per_joule"] > ones[-1]["output_tokens_per_joule"]
