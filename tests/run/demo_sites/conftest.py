"""Small records of two sites over a day of 100 s: wind in the first half at one of them."""

from __future__ import annotations

from typing import Any

import pytest

from steppe.report.records import RequestRecord, TickRecord
from steppe.run.demo_sites.places import ANYWHERE
from steppe.run.demo_sites.served import Phase, SiteRecord

EPOCH_S = 1000.0
DAY_S = 100.0
FIRM_W = 30.0
DRAW_W = 50.0


def tick(t_s: float, own_w: float) -> TickRecord:
    """A tick of 1 s with a draw of 50 W, of which the own supply takes what it can."""
    sources_w = {"wind": min(own_w, DRAW_W), "grid": max(0.0, DRAW_W - own_w)}
    power: dict[str, Any] = {"site_w": DRAW_W, "sources_w": sources_w}
    return TickRecord(
        t_s, own_w + FIRM_W, DRAW_W, own_w + FIRM_W, 0, 0, DRAW_W, 0, 0, 0, replicas=(), **power
    )


def request(tenant: str, arrival_s: float, tokens: int = 10, **more: Any) -> RequestRecord:
    """A request of 4 s, the first token after 1 s."""
    return RequestRecord(
        id=f"{tenant}-{arrival_s}",
        tenant=tenant,
        priority="interactive",
        arrival_s=arrival_s,
        prompt_tokens=5,
        cached_tokens=0,
        output_tokens=tokens,
        energy_j=7.0,
        **{
            "ttft_s": 1.0,
            "e2e_s": 4.0,
            "tpot_s": 0.3,
            "energy_source": "emulated",
            "finish": "length",
            "replica": "replica-1",
            **more,
        },
    )


@pytest.fixture
def phase() -> Phase:
    return Phase(ANYWHERE, EPOCH_S + 10.0, DAY_S, EPOCH_S + 10.0 + DAY_S + 5.0)


@pytest.fixture
def windy() -> SiteRecord:
    """70 W of wind until the middle of the day, then none; it served one of its own, two others."""
    ticks = [tick(float(t), 70.0 if t <= 60 else 0.0) for t in range(1, 120)]
    requests = [
        request("nearest", 2.0),  # before the phase
        request(ANYWHERE, 20.0),
        request("site:city", 30.0),
        request("site:city", 70.0),
    ]
    return SiteRecord("windy", EPOCH_S, FIRM_W, ticks, requests)


@pytest.fixture
def city() -> SiteRecord:
    """No own power; its record began 5 s later. It served one of its own; one was cancelled."""
    ticks = [tick(float(t), 0.0) for t in range(1, 120)]
    requests = [request(ANYWHERE, 20.0), request(ANYWHERE, 22.0, finish="cancelled")]
    return SiteRecord("city", EPOCH_S + 5.0, FIRM_W, ticks, requests)
