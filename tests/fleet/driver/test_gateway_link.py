from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import ray
from tests.fixtures.ray_actors import FakeActor

from steppe.fleet.driver.gateway_link import GatewayLink
from steppe.gateway.server import DriverNews, GatewayNews, RequestEnergy
from steppe.report.records import RequestRecord

HOUR = 471_000
BEGAN_S = HOUR * 3600.0


def record(id_: str, **changes: Any) -> RequestRecord:
    made = RequestRecord(
        id=id_,
        tenant="lab",
        priority="standard",
        arrival_s=10.0,
        ttft_s=0.1,
        e2e_s=1.0,
        tpot_s=0.1,
        prompt_tokens=7,
        cached_tokens=None,
        output_tokens=5,
        energy_j=20.0,
        energy_source="counter",
        finish="stop",
        replica="r0",
        model="m",
    )
    return replace(made, **changes)


@pytest.fixture
def gateway(fake_ray: None) -> FakeActor:
    return FakeActor({"tell": GatewayNews(usage_rows=1)})


def told(gateway: FakeActor) -> list[DriverNews]:
    return [news for (news,) in gateway.args("tell")]


def test_the_energy_and_the_usage_of_requests_are_told_once(gateway: FakeActor) -> None:
    link = GatewayLink(gateway, BEGAN_S)
    early = RequestEnergy("b", 3.0, "counter", "gpu", is_final=False)
    link.tell([record("a")], [early])
    link.tell([record("b", energy_j=4.0, energy_source="estimated", finish="cancelled")], [])
    link.tell([], [])
    first, second, third = told(gateway)
    assert first.energies == (RequestEnergy("a", 20.0, "counter", "gpu", is_final=True), early)
    assert [(e.id, e.energy_j, e.source) for e in second.energies] == [("b", 4.0, "estimated")]
    (row,) = second.usage
    assert (row.tenant, row.model, row.hour) == ("lab", "m", HOUR)
    assert (row.requests, row.completed, row.output_tokens, row.energy_j) == (2, 1, 10, 24.0)
    assert row.source == "estimated"
    assert (third.energies, third.usage) == ((), ())


def test_rows_are_those_of_the_hour_of_arrival_and_of_the_adapter(gateway: FakeActor) -> None:
    link = GatewayLink(gateway, BEGAN_S)
    link.tell([record("a"), record("b", arrival_s=3601.0), record("c", adapter="sql")], [])
    (news,) = told(gateway)
    assert {row.key for row in news.usage} == {
        ("lab", "m", HOUR),
        ("lab", "m", HOUR + 1),
        ("lab", "sql", HOUR),
    }


def test_news_wait_while_the_gateway_does_not_answer(gateway: FakeActor) -> None:
    link = GatewayLink(gateway, BEGAN_S)
    gateway.ready = False
    link.tell([record("a")], [])
    gateway.ready = True
    link.tell([record("b")], [])
    gateway.calls[0].ready = True
    link.tell([record("c")], [])
    ids = [[energy.id for energy in news.energies] for news in told(gateway)]
    assert ids == [["a"], ["b", "c"]]


@pytest.mark.parametrize("answer", [GatewayNews(usage_rows=0), ray.exceptions.RayActorError()])
def test_a_gateway_that_has_restarted_gets_all_usage_again(gateway: FakeActor, answer: Any) -> None:
    link = GatewayLink(gateway, BEGAN_S)
    gateway.answers["tell"] = answer
    link.tell([record("a")], [])
    gateway.answers["tell"] = GatewayNews(usage_rows=1)
    for _ in range(2):
        link.tell([], [])
    assert [len(news.usage) for news in told(gateway)] == [1, 1, 0]
