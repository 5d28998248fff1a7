"""The state of the fleet over HTTP."""

from __future__ import annotations

import json

from tests.gateway.site import Site

from steppe.gateway.server import DriverNews, RequestEnergy


async def test_the_status_has_what_gateway_and_controller_know(site: Site) -> None:
    await site.awake_replica()
    site.gateway.set_fleet_state(
        b'{"power":{"budget_w":90.0},"models":{"m":{"headroom_tps":7.0},"gone":{}},"plan":[]}'
    )
    status, _, body = await site.get("/steppe/v1/status")
    found = json.loads(body)
    assert (status, found["power"], found["plan"]) == (200, {"budget_w": 90.0}, [])
    assert found["controller"]["stale"] is False
    assert list(found["models"]) == ["m"]
    model = found["models"]["m"]
    assert (model["awake"], model["waiting"], model["headroom_tps"]) == (1, 0, 7.0)


async def test_before_the_first_tick_the_status_has_the_models_only(site: Site) -> None:
    found = json.loads((await site.get("/steppe/v1/status"))[2])
    assert found["controller"] == {"age_s": None, "stale": False}
    assert found["models"]["m"]["awake"] == 0
    assert "power" not in found


async def test_the_status_has_the_joules_of_each_class(site: Site) -> None:
    await site.awake_replica()
    for priority, energy_j in (("deferrable", 2.0), ("standard", 3.0), ("deferrable", 4.0)):
        await site.post(X_Steppe_Priority=priority)
        (ended,) = site.gateway.drain_finished()
        site.gateway.tell(DriverNews((RequestEnergy(ended.id, energy_j, "counter", "gpu", True),)))
    found = json.loads((await site.get("/steppe/v1/status"))[2])
    assert found["request_energy_j"] == {"deferrable": 6.0, "standard": 3.0}


async def test_the_list_of_models_has_what_the_controller_knows(site: Site) -> None:
    site.gateway.set_fleet_state(b'{"models":{"m":{"replicas":3,"headroom_tps":7.0,"draw_w":1}}}')
    (model,) = json.loads((await site.get("/v1/models"))[2])["data"]
    assert model["steppe"] == {
        "state": "asleep",
        "awake": 0,
        "waiting": 0,
        "replicas": 3,
        "headroom_tps": 7.0,
    }


async def test_the_status_has_the_last_minute_of_the_requests(site: Site) -> None:
    await site.awake_replica()
    assert json.loads((await site.get("/steppe/v1/status"))[2])["models"]["m"]["demand"] == []
    await site.post()
    model = json.loads((await site.get("/steppe/v1/status"))[2])["models"]["m"]
    (demand,) = model["demand"]
    assert demand["output_tps"] > 0
    assert (demand["priority"], demand["regions"], demand["data_class"]) == (
        "standard",
        None,
        "general",
    )


async def test_a_stream_without_a_usage_is_demand_by_its_events(site: Site) -> None:
    replica = await site.awake_replica()
    event = b'data: {"choices":[{"index":0,"text":" a","finish_reason":null}]}\n\n'
    last = event.replace(b"null", b'"length"')
    replica.stream = [*[event] * 9, last, b"data: [DONE]\n\n"]
    await site.post("/v1/completions", b'{"model":"m","prompt":"a","stream":true}')
    model = json.loads((await site.get("/steppe/v1/status"))[2])["models"]["m"]
    (demand,) = model["demand"]
    assert demand["output_tps"] > 0
    assert model["tpot_mean_s"] is not None


async def test_requests_of_other_sites_are_no_demand_of_this_one(site: Site) -> None:
    await site.awake_replica()
    await site.post(X_Steppe_Tenant="site:shanghai")
    assert json.loads((await site.get("/steppe/v1/status"))[2])["models"]["m"]["demand"] == []
