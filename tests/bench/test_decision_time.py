"""The decision that is timed is that of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from steppe.control.policy.pipeline import PolicyPipeline


def test_every_pool_decides_with_all_stages_of_a_run(bench: Any) -> None:
    timed = bench("decision_time")
    pools = timed.pools(10 * timed.POOLS)
    assert len({pool.frontier for pool in pools}) == timed.POOLS
    assert all(isinstance(pool.policy, PolicyPipeline) for pool in pools)
    plans = [pool.decide(pool.observe(0.0)) for pool in pools]
    assert all(plan.awake for plan in plans)


def test_other_lengths_give_other_points(bench: Any) -> None:
    timed = bench("decision_time")
    pool, other = timed.pools(10 * timed.POOLS)[0], timed.pools(10 * timed.POOLS)[0]
    other.lengths = replace(other.lengths, prompt_tokens=4000.0, output_tokens=50.0)
    plan, changed = (one.decide(one.observe(0.0)) for one in (pool, other))
    assert changed.output_tps < plan.output_tps / 2


def test_the_target_is_that_of_ten_thousand_replicas_with_new_lengths_in_one_pool(
    bench: Any,
) -> None:
    timed = bench("decision_time")
    row = timed.time_decision(timed.POOLS, 1, 1)
    wanted = replace_name(row, "10,000 replicas")
    (target,) = timed.document([row, wanted])["targets"]
    assert (target["value"], target["target"]) == (7.0, 10.0)


def replace_name(row: dict[str, Any], replicas: str) -> dict[str, Any]:
    return row | {"name": row["name"].replace("20 replicas", replicas), "median_ms": 7.0}
