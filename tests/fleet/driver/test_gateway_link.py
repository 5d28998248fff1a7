from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from tests.fixtures.ray_actors import FakeActor

from steppe.config import parse_config
from steppe.fleet.driver.config_changer import ConfigChanger
from steppe.fleet.driver.gateway_link import GatewayLink
from steppe.fleet.driver.usage_totals import UsageTotals
from steppe.gateway.server import ChangeResult, ConfigChange, DriverNews, GatewayNews, RequestEnergy
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


def changer(controller: FakeActor) -> ConfigChanger:
    values: dict[str, Any] = {
        "model": {"name": "tiny"},
        "device": {"kind": "emulated", "profile": "h100", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
    }
    config = parse_config(values, "test", Path("/runs"))
    return ConfigChanger(config, controller.reconfigure.remote)


@pytest.fixture
def gateway(fake_ray: None) -> FakeActor:
    return FakeActor({"tell": GatewayNews(usage_rows=1)})


def told(gateway: FakeActor) -> list[DriverNews]:
    return [news for (news,) in gateway.args("tell")]


def test_the_energy_and_the_usage_of_requests_are_told_once(gateway: FakeActor) -> None:
    link = GatewayLink(gateway, UsageTotals(BEGAN_S), changer(gateway))
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
    link = GatewayLink(gateway, UsageTotals(BEGAN_S), changer(gateway))
    link.tell([record("a"), record("b", arrival_s=3601.0), record("c", adapter="sql")], [])
    (news,) = told(gateway)
    assert {row.key for row in news.usage} == {
        ("lab", "m", HOUR),
        ("lab", "m", HOUR + 1),
        ("lab", "sql", HOUR),
    }


def test_news_wait_while_the_gateway_does_not_answer(gateway: FakeActor) -> None:
    link = GatewayLink(gateway, UsageTotals(BEGAN_S), changer(gateway))
    gateway.ready = False
    link.tell([record("a")], [])
    gateway.ready = True
    link.tell([record("b")], [])
    for call in gateway.calls:
        call.ready = True
    link.tell([record("c")], [])
    ids = [[energy.id for energy in news.energies] for news in told(gateway)]
    assert ids == [["a"], ["b", "c"]]


@pytest.mark.parametrize("answer", [GatewayNews(usage_rows=0), ray.exceptions.RayActorError()])
def test_a_gateway_that_has_restarted_gets_all_usage_again(gateway: FakeActor, answer: Any) -> None:
    link = GatewayLink(gateway, UsageTotals(BEGAN_S), changer(gateway))
    gateway.answers["tell"] = answer
    link.tell([record("a")], [])
    gateway.answers["tell"] = GatewayNews(usage_rows=1)
    for _ in range(2):
        link.tell([], [])
    assert [len(news.usage) for news in told(gateway)] == [1, 1, 0]


def change(id_: str, section: str, values: dict[str, Any]) -> ConfigChange:
    return ConfigChange(id_, section, values, "localhost")


def test_a_change_is_given_to_the_controller_and_its_result_to_the_gateway(
    gateway: FakeActor,
) -> None:
    gateway.answers["reconfigure"] = ""
    changes = changer(gateway)
    link = GatewayLink(gateway, UsageTotals(BEGAN_S), changes)
    asked = change("c1", "slo", {"ttft_s": 1.0})
    gateway.answers["tell"] = GatewayNews(changes=(asked,))
    link.tell([], [])
    link.tell([], [])  # reads that the gateway asks for it
    assert changes.advance(4.0) == ([], [])
    link.tell([], [])  # the gateway asks again until it has the result
    results, (record,) = changes.advance(5.0)
    assert results == [ChangeResult("c1", "", 5.0)]
    assert (record.section, record.by, record.after["ttft_s"]) == ("slo", "localhost", 1.0)
    assert record.before["ttft_s"] == 2.0
    (reconfigured,) = gateway.args("reconfigure")
    assert reconfigured[0].slo.ttft_s == 1.0
    link.tell([], [], results)
    last = told(gateway)[-1]
    assert last.results == (ChangeResult("c1", "", 5.0),)
    assert last.config is not None
    assert (last.config[0].slo.ttft_s, last.config[1]) == (1.0, 1)
    assert changes.advance(6.0) == ([], [])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("trace.csv: not found", "trace.csv: not found"),
        (ray.exceptions.RayActorError(), "the controller does not answer: "),
    ],
)
def test_a_change_that_the_controller_refuses_leaves_the_configuration(
    gateway: FakeActor, answer: Any, error: str
) -> None:
    gateway.answers["reconfigure"] = answer
    changes = changer(gateway)
    changes.add([change("c1", "slo", {"ttft_s": 1.0}), change("c2", "slo", {"ttft_s": -1})])
    changes.advance(1.0)
    (first, second), records = changes.advance(2.0)
    assert first.error.startswith(error)
    assert second.error.startswith("slo.ttft_s: asked for a number above 0")
    assert (records, changes.config.slo.ttft_s, changes.version) == ([], 2.0, 0)
