from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from tests.fixtures.fleet_messages import tick_record

from steppe.report.records import ReplicaTick, RequestRecord, Slo

SLO = Slo(ttft_s=5.0, tpot_s=0.5)


@pytest.fixture
def switch(bench: Any) -> ModuleType:
    found: ModuleType = bench("live_traffic_switch")
    return found


def request(arrival_s: float, prompt_tokens: int, ttft_s: float) -> RequestRecord:
    return RequestRecord(
        id=str(arrival_s),
        tenant="default",
        priority="standard",
        arrival_s=arrival_s,
        ttft_s=ttft_s,
        e2e_s=ttft_s + 1.0,
        tpot_s=0.1,
        prompt_tokens=prompt_tokens,
        cached_tokens=0,
        output_tokens=11,
        energy_j=1.0,
        energy_source="emulated",
        finish="length",
        replica="replica-1",
    )


def test_prompts_become_long_and_answers_short_at_the_switch(switch: ModuleType) -> None:
    load = switch.arrivals(0, 150.0, 180.0)
    before = [arrival for arrival in load if arrival.at_s < 150.0]
    after = [arrival for arrival in load if arrival.at_s >= 150.0]
    assert len(before) + len(after) == len(load) > 250
    assert max(a.prompt_tokens for a in before) < min(a.prompt_tokens for a in after)
    assert max(a.output_tokens for a in after) <= switch.LONG_OUTPUT[1]
    assert [a.at_s for a in load] == sorted(a.at_s for a in load)
    assert load == switch.arrivals(0, 150.0, 180.0)


def test_the_budget_is_constant_and_above_what_the_gpus_can_draw(switch: ModuleType) -> None:
    config = switch.config_of("save_energy")
    (supply,) = config.power.supply
    assert supply.watts == switch.BUDGET_W > 2 * 72.0
    assert (config.control.policy, config.frontier.refine) == ("save_energy", False)
    assert switch.config_of(None).control.policy == "follow_budget"


def test_windows_count_from_the_first_long_prompt(switch: ModuleType) -> None:
    requests = [
        request(3.0, 80, 1.0),
        request(12.0, 300, 6.0),
        request(14.0, 300, 1.0),
        request(22.5, 300, 6.0),
        request(33.0, 300, 1.0),
    ]
    awake = ReplicaTick("replica-1", "awake", 1200, 8, 40.0, 9.0)
    ticks = [tick_record(float(t_s), draw_w=40.0, replicas=(awake,)) for t_s in range(1, 41)]
    result = switch.result_of(requests, ticks, SLO)
    rows = result["windows"]
    assert [row["from_s"] for row in rows] == [-10.0, 0.0, 10.0, 20.0]
    assert [row["slo_attainment"] for row in rows] == [1.0, 0.5, 0.0, 1.0]
    assert (rows[1]["ttft_p50_s"], rows[1]["awake"], rows[1]["clock_mhz"]) == (3.5, 1.0, 1200.0)
    assert result["missed_until_s"] == 20.0
    assert result["conversation"]["requests"] == 1
    assert result["energy_above_budget_j"] == 0.0
    assert [target["met"] for target in switch.targets(result)] == [True, True]


def test_an_slo_that_is_always_kept_was_missed_until_the_switch(switch: ModuleType) -> None:
    result = switch.result_of([request(3.0, 80, 1.0), request(12.0, 300, 2.0)], [], SLO)
    assert result["missed_until_s"] == 0.0
