"""Several models on one simulated fleet: one budget, one observation, one set of books."""

from __future__ import annotations

import math
from typing import Any

import pytest

import steppe
from steppe.errors import ConfigError
from steppe.report.latency import within_slo
from steppe.run.simulated_pools import slo_of
from steppe.run.simulation import as_config, prepare

SMALL: dict[str, Any] = {
    "name": "none",
    "served_name": "small",
    "replicas": 3,
    "load": {"length_scale": 0.125, "utilisation": 0.9, "seed": 4},
}
LARGE: dict[str, Any] = {
    "name": "none",
    "served_name": "large",
    "replicas": 2,
    "gpus_per_replica": 2,
    "weight": 3.0,
    "slo": {"ttft_s": 0.5, "tpot_s": 0.15},
}
CONFIG: dict[str, Any] = {
    "models": [SMALL, LARGE],
    "engine": {"kind": "synthetic", "max_batch_limit": 16},
    "device": {"kind": "emulated", "profile": "l4", "count": 8},
    "power": {"supply": [{"kind": "constant", "watts": 260}]},
    "frontier": {"sweep": {"prompt_tokens": 144, "output_tokens": 26, "batch_limits": [8, 16]}},
    "load": {"length_scale": 0.125, "utilisation": 0.9},
    "sim": {"duration_s": 20, "wake_s": 0.5, "sleep_s": 0.2},
}


@pytest.fixture(scope="module")
def result() -> steppe.RunResult:
    return steppe.simulate(CONFIG)


def test_every_joule_of_all_models_is_in_one_set_of_books(result: steppe.RunResult) -> None:
    summary = result.summary
    charged_j = math.fsum(request.energy_j or 0.0 for request in result.request_records)
    parts_j = summary["idle_energy_j"] + summary["transition_energy_j"]
    assert charged_j + parts_j == pytest.approx(summary["energy_j"])
    of_ticks_j = math.fsum(tick.energy_j for tick in result.tick_records)
    assert of_ticks_j == pytest.approx(summary["energy_j"], rel=0.1)


def test_a_tick_has_the_replicas_of_all_models_and_what_each_model_did(
    result: steppe.RunResult,
) -> None:
    for tick in result.tick_records:
        assert [r.id for r in tick.replicas] == [f"replica-{n}" for n in range(1, 6)]
        assert [r.pool for r in tick.replicas] == ["small"] * 3 + ["large"] * 2
        assert [pool.name for pool in tick.pools] == ["small", "large"]
        assert sum(pool.draw_w for pool in tick.pools) == pytest.approx(tick.draw_w)
        assert sum(pool.output_tps for pool in tick.pools) == pytest.approx(tick.output_tps)
        assert sum(pool.budget_w for pool in tick.pools) <= tick.budget_w + 1e-6


def test_the_models_together_keep_the_budget(result: steppe.RunResult) -> None:
    over = result.summary["tracking"]["over_budget_j"]
    assert over is not None
    assert over <= 0.005 * result.summary["energy_j"]


def test_a_request_is_served_by_the_model_that_it_asks_for_and_the_summary_counts_each(
    result: steppe.RunResult,
) -> None:
    of_replica = {"replica-4": "large", "replica-5": "large"}
    for request in result.request_records:
        if request.replica is not None:
            assert request.model == of_replica.get(request.replica, "small")
    models, records = result.summary["models"], result.request_records
    assert set(models) == {"small", "large"}
    slo = slo_of(as_config(CONFIG))
    for name, sums in models.items():
        mine = [request for request in records if request.model == name]
        assert sums["requests"] == len(mine)
        assert sums["completed"] == sum(request.outcome == "completed" for request in mine) > 0
        assert sums["good"] == sum(within_slo(request, slo) is True for request in mine)
        assert sums["output_tokens"] == sum(request.output_tokens for request in mine)
        assert sums["energy_j"] == pytest.approx(math.fsum(r.energy_j or 0.0 for r in mine))


def test_each_model_is_judged_by_its_own_slo() -> None:
    slo = slo_of(as_config(CONFIG))
    assert (slo.ttft_s, slo.tpot_s) == (2.0, 0.2)
    assert list(slo.of_models) == ["large"]
    assert slo.of_models["large"].ttft_s == 0.5


def test_a_model_without_load_sleeps_while_the_other_serves() -> None:
    quiet = LARGE | {"load": {"utilisation": 0}}
    result = steppe.simulate(CONFIG | {"models": [SMALL, quiet]})
    assert set(result.summary["models"]) == {"small"}
    states = {
        r.state for tick in result.tick_records[-5:] for r in tick.replicas if r.pool == "large"
    }
    assert "asleep" in states


def test_a_list_of_one_model_gives_what_the_model_alone_gives() -> None:
    one = {key: SMALL[key] for key in ("name", "served_name")}
    rest = CONFIG | {"load": SMALL["load"], "fleet": {"replicas": 3}}
    alone = steppe.simulate({k: v for k, v in rest.items() if k != "models"} | {"model": one})
    listed = steppe.simulate(CONFIG | {"models": [SMALL]})
    assert listed.summary["output_tokens"] == alone.summary["output_tokens"] > 0
    assert listed.summary["energy_j"] == alone.summary["energy_j"]


def test_a_replica_that_fails_is_counted_through_all_models() -> None:
    sim = CONFIG["sim"] | {"failures": [{"at_s": 5, "replica": 4}]}
    result = steppe.simulate(CONFIG | {"sim": sim})
    states = {r.state for tick in result.tick_records for r in tick.replicas if r.id == "replica-4"}
    assert "starting" in states or "gone" in states
    with pytest.raises(ConfigError, match="replica 6 of 5 does not exist"):
        prepare(
            as_config(CONFIG | {"sim": CONFIG["sim"] | {"failures": [{"at_s": 1, "replica": 6}]}}),
            print,
        )


def test_a_budget_below_the_draw_of_all_sleepers_is_refused() -> None:
    power = {"supply": [{"kind": "constant", "watts": 20}]}
    with pytest.raises(ConfigError, match="all sleeping replicas of 2 models"):
        steppe.simulate(CONFIG | {"power": power})


def test_the_site_overhead_is_charged_once() -> None:
    site = {"boundary": "site", "node_rest_w": 10.0, "pue": 1.2, "overhead_w": 30.0}
    power = {"supply": [{"kind": "constant", "watts": 600}]}
    result = steppe.simulate(CONFIG | {"site": site, "power": power})
    gpus_j = math.fsum(tick.draw_w for tick in result.tick_records)
    rest_j = len(result.tick_records) * (30.0 + 2 * 10.0 * 1.2)
    whole_j = math.fsum(tick.energy_j for tick in result.tick_records)
    assert whole_j == pytest.approx(1.2 * gpus_j + rest_j, rel=1e-3)
