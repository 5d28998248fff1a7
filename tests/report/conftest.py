from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from steppe.report.latency import tpot_s
from steppe.report.records import ReplicaTick, RequestRecord, RunTotals, Slo, TickRecord

FULL_W, IDLE_W, FLOOR_W = 72.0, 30.0, 16.0
CLOCKS_MHZ = (600, 900, 1200, 1500, 1800, 2040)


@dataclass(frozen=True, slots=True)
class MadeRun:
    """A made-up run whose joules and tokens add up."""

    ticks: tuple[TickRecord, ...]
    requests: tuple[RequestRecord, ...]
    totals: RunTotals
    slo: Slo


def make_run(duration_s: int = 240, replicas: int = 2, seed: int = 0) -> MadeRun:
    """Return a run under a wind-like budget: clocks follow it first, then replicas."""
    rng = np.random.default_rng(seed)
    ticks = tuple(_make_ticks(duration_s, replicas, rng))
    tokens = sum(tick.output_tokens for tick in ticks)
    energy_j = sum(tick.energy_j for tick in ticks)
    requests = tuple(_make_requests(tokens, energy_j, duration_s, rng))
    spent_j = sum(request.energy_j or 0.0 for request in requests)
    totals = RunTotals(
        duration_s=float(duration_s),
        energy_source="emulated",
        boundary="gpu",
        energy_j=energy_j,
        idle_energy_j=0.75 * (energy_j - spent_j),
        transition_energy_j=0.25 * (energy_j - spent_j),
        meter_delay_s=1.0,
        energy_error_j=0.004 * energy_j,
        versions={"steppe": "0.1.0", "vllm": "0.32.0", "ray": "2.60.0"},
    )
    return MadeRun(ticks, requests, totals, Slo(ttft_s=2.0, tpot_s=0.2))


def _make_ticks(duration_s: int, replicas: int, rng: np.random.Generator) -> Iterator[TickRecord]:
    waiting, gust, before_w = 4, 0.0, 0.0
    for t_s in range(1, duration_s + 1):
        gust = 0.9 * gust + rng.normal(0, 0.02)
        supply_w = _wind_share(t_s / duration_s, gust) * FULL_W * replicas
        budget_w = min(0.94 * supply_w, 0.97 * FULL_W * replicas)
        late_w = 0.75 * budget_w + 0.25 * (before_w or budget_w)
        before_w = budget_w
        fleet = _make_fleet(0.975 * late_w, replicas, rng)
        draw_w = sum(replica.draw_w for replica in fleet)
        tokens = round(sum(replica.output_tps for replica in fleet))
        demand_tps = 640 + 60 * float(np.sin(t_s / 11))
        waiting = max(0, waiting + round((demand_tps - tokens) / 64))
        yield TickRecord(
            t_s=float(t_s),
            budget_w=budget_w,
            draw_w=draw_w,
            supply_w=supply_w,
            demand_tps=demand_tps,
            output_tps=float(tokens),
            energy_j=draw_w,
            output_tokens=tokens,
            waiting=waiting,
            running=sum(replica.batch_limit for replica in fleet if replica.state == "awake"),
            replicas=fleet,
        )


def _wind_share(progress: float, gust: float) -> float:
    wave = 0.58 + 0.32 * np.sin(2 * np.pi * progress * 1.6 + 0.6) + gust
    lull = 0.45 if 0.55 < progress < 0.7 else 1.0
    return float(np.clip(wave * lull, 0.25, 1.1))


def _make_fleet(
    target_w: float, replicas: int, rng: np.random.Generator
) -> tuple[ReplicaTick, ...]:
    awake = int(np.clip((target_w - FLOOR_W * replicas) // (38 - FLOOR_W), 1, replicas))
    each_w = (target_w - FLOOR_W * (replicas - awake)) / awake
    level = float(np.clip((each_w - IDLE_W) / (FULL_W - IDLE_W), 0, 1))
    clock_mhz = CLOCKS_MHZ[round(level * 5)]
    limit = (8, 16, 32, 64)[round(level * 3)]
    draw_w = float(min(each_w, FULL_W) * (1 + rng.normal(0, 0.012)))
    output_tps = 60 + 340 * level**0.8
    return tuple(
        ReplicaTick(f"replica-{index}", "awake", clock_mhz, limit, draw_w, output_tps)
        if index < awake
        else ReplicaTick(f"replica-{index}", "asleep", 210, 8, FLOOR_W, 0.0)
        for index in range(replicas)
    )


def _make_requests(
    tokens: int, energy_j: float, duration_s: int, rng: np.random.Generator
) -> list[RequestRecord]:
    requests: list[RequestRecord] = []
    left, per_token_j = tokens, 0.8 * energy_j / tokens
    while left:
        output_tokens = min(left, int(rng.integers(1, 128)))
        left -= output_tokens
        ttft_s = float(rng.lognormal(-0.7, 0.7))
        e2e_s = ttft_s + output_tokens * float(rng.uniform(0.04, 0.12))
        requests.append(
            RequestRecord(
                id=f"request-{len(requests)}",
                tenant="demo",
                priority="standard",
                arrival_s=float(rng.uniform(0, duration_s)),
                ttft_s=ttft_s,
                e2e_s=e2e_s,
                tpot_s=tpot_s(ttft_s, e2e_s, output_tokens),
                prompt_tokens=int(rng.integers(8, 512)),
                cached_tokens=0,
                output_tokens=output_tokens,
                energy_j=output_tokens * per_token_j,
                energy_source="emulated",
                finish="length",
                replica="replica-0",
            )
        )
    return requests


@pytest.fixture(scope="session")
def run_maker() -> Callable[..., MadeRun]:
    return make_run


@pytest.fixture(scope="session")
def made_run() -> MadeRun:
    return make_run()
