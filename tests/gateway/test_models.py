"""Several models behind one gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.gateway.site import FakeReplica, Site, SiteFactory

from steppe.gateway.gate import AdmissionGate
from steppe.gateway.pools import Pool, Pools
from steppe.gateway.routing import Route
from steppe.gateway.served_model import GatewayModel

BIG = GatewayModel("big", ttft_s=5.0, tpot_s=0.5)
SMALL = GatewayModel("org/small", ttft_s=1.0, adapters=("sql", "poems"))
JSON = {"Content_Type": "application/json"}


@pytest.fixture
async def two(open_site: SiteFactory) -> Site:
    return await open_site(max_waiting=2, models=(BIG, SMALL))


async def replica_of(site: Site, model: str, name: str) -> FakeReplica:
    replica = await site.replica(name)
    replica.model = model
    return replica


def chat(model: str | None) -> bytes:
    return json.dumps({"messages": []} | ({} if model is None else {"model": model})).encode()


async def ask(site: Site, body: bytes, path: str = "/v1/chat/completions") -> tuple[int, Any]:
    status, _, answer = await site.post(path, body, **JSON)
    return status, json.loads(answer)


async def models(site: Site, path: str = "") -> Any:
    return json.loads((await site.get(f"/v1/models{path}"))[2])


async def test_a_request_goes_to_a_replica_of_the_model_that_it_names(two: Site) -> None:
    big, small = await replica_of(two, "big", "r0"), await replica_of(two, "org/small", "r1")
    two.route(big, small)
    for model in ("big", "org/small", "sql"):
        assert (await ask(two, chat(model)))[0] == 200
    assert [len(replica.received) for replica in (big, small)] == [1, 2]
    ended = [(r.model, r.adapter, r.replica) for r in two.gateway.drain_finished()]
    assert ended == [("big", "", "r0"), ("org/small", "", "r1"), ("org/small", "sql", "r1")]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
async def test_an_unknown_model_is_refused_with_the_known_ones(two: Site, path: str) -> None:
    status, answer = await ask(two, chat("other"), path)
    assert status == 404
    assert answer["error"] == {
        "message": "asked for model other, found big, org/small, sql, poems",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    status, answer = await ask(two, chat(None), path)
    assert (status, answer["error"]["code"]) == (400, "missing_required_parameter")
    assert "big, org/small, sql, poems" in answer["error"]["message"]
    assert two.gateway.status().arrived == 0


async def test_with_one_model_the_engine_answers_for_the_name_itself(site: Site) -> None:
    replica = await site.awake_replica()
    for body in (chat("other"), chat(None), b'{"model": 7}', b"[]"):
        assert (await ask(site, body))[0] == 200
    assert len(replica.received) == 4
    assert {r.model for r in site.gateway.drain_finished()} == {"m"}


async def test_the_model_of_a_form_is_read(two: Site) -> None:
    big, small = await replica_of(two, "big", "r0"), await replica_of(two, "org/small", "r1")
    two.route(big, small)
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nsql\r\n--x--\r\n'
    status, _, _ = await two.post(
        "/v1/audio/transcriptions", form, Content_Type="multipart/form-data; boundary=x"
    )
    assert (status, len(small.received)) == (200, 1)


async def test_requests_wait_for_replicas_of_their_own_model_only(two: Site) -> None:
    two.route(await replica_of(two, "org/small", "r1"))
    waiting = [asyncio.create_task(ask(two, chat("big"))) for _ in range(2)]
    await two.until(lambda: two.gateway.status().waiting == 2)
    status, answer = await ask(two, chat("big"))  # the queue of this model is full
    assert (status, answer["error"]["code"]) == (503, "queue_full")
    assert (await ask(two, chat("org/small")))[0] == 200
    counts = two.gateway.status()
    assert (counts.waiting, counts.arrived, counts.answered) == (2, 4, 1)
    of_big, of_small = counts.models["big"], counts.models["org/small"]
    assert (of_big.waiting, of_big.arrived, of_big.refused) == (2, 3, 1)
    assert (of_small.waiting, of_small.arrived, of_small.answered) == (0, 1, 1)
    two.route(await replica_of(two, "big", "r0"))
    assert [(await task)[0] for task in waiting] == [200, 200]


async def test_the_retry_after_is_that_of_the_model(two: Site) -> None:
    two.gateway.set_routes((), {"big": 40.5, "org/small": None})
    waiting = [asyncio.create_task(ask(two, chat("big"))) for _ in range(2)]
    await two.until(lambda: two.gateway.status().waiting == 2)
    status, headers, _ = await two.post("/v1/chat/completions", chat("big"), **JSON)
    assert status == 503
    assert int(headers["Retry-After"]) == pytest.approx(40, abs=1)
    for task in waiting:
        task.cancel()
    found = {entry["id"]: entry["steppe"]["state"] for entry in (await models(two))["data"]}
    assert found == {"big": "waking", "org/small": "asleep", "sql": "asleep", "poems": "asleep"}


async def test_the_list_has_every_model_and_adapter_with_its_state(two: Site) -> None:
    small = await replica_of(two, "org/small", "r1")
    small.models = json.dumps(
        {
            "data": [
                {"id": "sql", "object": "model", "parent": "org/small"},
                {"id": "org/small", "object": "model", "max_model_len": 512},
            ]
        }
    ).encode()
    two.route(small)
    found = (await models(two))["data"]
    assert [entry["id"] for entry in found] == ["big", "org/small", "sql", "poems"]
    awake = {"state": "awake", "awake": 1, "waiting": 0}
    assert found[1] == {"id": "org/small", "object": "model", "max_model_len": 512, "steppe": awake}
    assert (found[3]["parent"], found[3]["owned_by"]) == ("org/small", "steppe")
    assert found[0]["steppe"] == {"state": "asleep", "awake": 0, "waiting": 0}
    two.route()  # it sleeps: what its engine has said is still known
    assert (await models(two, "/org/small"))["max_model_len"] == 512
    assert (await models(two, "/org/small"))["steppe"]["state"] == "asleep"
    assert (await models(two, "/other"))["error"]["code"] == "model_not_found"


async def test_a_list_is_asked_for_once_in_ten_seconds(two: Site) -> None:
    big = await replica_of(two, "big", "r0")
    two.route(big)
    for _ in range(3):
        await models(two)
    assert [request.target for request in big.received] == ["/v1/models"]


async def test_metrics_have_the_label_model(two: Site) -> None:
    two.route(await replica_of(two, "org/small", "r1"))
    await ask(two, chat("sql"))
    text = (await two.get("/metrics"))[2].decode()
    assert 'steppe_requests_arrived_total{model="org/small"} 1.0\n' in text
    assert 'steppe_requests_arrived_total{model="big"} 0.0\n' in text
    assert 'steppe_requests_total{finish="length",model="org/small"} 1.0\n' in text


def test_a_name_may_be_served_once_only() -> None:
    models = (BIG, GatewayModel("other", 1.0, adapters=("big",)))
    with pytest.raises(ValueError, match="model big is served twice"):
        Pools(Pool(model, AdmissionGate(1)) for model in models)


def test_a_route_needs_a_known_model() -> None:
    pools = Pools(Pool(model, AdmissionGate(1)) for model in (BIG, SMALL))
    with pytest.raises(AssertionError, match="routes of models that are not served: other"):
        pools.set_routes([Route("r0", "http://r0", 1, "other")], {})
