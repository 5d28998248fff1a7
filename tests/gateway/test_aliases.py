"""An alias behind the gateway: which variant serves it, and what the answer and the books say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.gateway.site import FakeReplica, Site, SiteFactory

from steppe.gateway.served_model import GatewayAlias, GatewayModel

BIG = GatewayModel("big", ttft_s=5.0, tpot_s=0.5)
SMALL = GatewayModel("small", ttft_s=1.0)
ALIAS = GatewayAlias("assistant", ("big", "small"))
JSON = {"Content_Type": "application/json"}
CHAT = json.dumps({"model": "assistant", "messages": []}).encode()


@pytest.fixture
async def two(open_site: SiteFactory) -> Site:
    return await open_site(max_waiting=4, models=(BIG, SMALL), aliases=(ALIAS,))


async def replica_of(site: Site, model: str, *, answers: bool = True) -> FakeReplica:
    replica = await site.replica(f"r-{model}", answers=answers)
    replica.model = model
    replica.body = replica.body.replace(b'"model":"m"', f'"model":"{model}"'.encode())
    return replica


async def both(site: Site, *, answer: bool = True, limit: int = 8) -> list[FakeReplica]:
    found = [await replica_of(site, name, answers=answer) for name in ("big", "small")]
    site.route(*found, limit=limit)
    return found


def share(site: Site, big: float) -> None:
    site.gateway.set_shares({"assistant": {"big": big, "small": 1 - big}})


async def ask(site: Site, **headers: str) -> tuple[int, Any]:
    status, _, answer = await site.post(body=CHAT, **JSON, **headers)
    return status, json.loads(answer)


def sent_model(replica: FakeReplica) -> Any:
    return json.loads(replica.received[-1].body)["model"]


async def test_an_alias_is_served_by_the_first_variant_until_a_plan_says_otherwise(
    two: Site,
) -> None:
    big, small = await both(two)
    status, answer = await ask(two)
    assert (status, answer["model"]) == (200, "big")
    assert sent_model(big) == "big"  # an engine knows no alias
    share(two, 0.0)
    assert (await ask(two))[1]["model"] == "small"
    assert sent_model(small) == "small"


async def test_requests_are_dealt_by_the_shares_of_the_plan(two: Site) -> None:
    big, small = await both(two)
    share(two, 0.75)
    for _ in range(20):
        await ask(two)
    assert (len(big.received), len(small.received)) == (15, 5)


async def test_a_variant_without_a_free_place_is_passed_over(two: Site) -> None:
    big, small = await both(two, answer=False, limit=1)
    small.may_answer.set()
    first = asyncio.create_task(ask(two))
    await two.until(lambda: len(big.received) == 1)
    assert (await ask(two))[1]["model"] == "small"
    big.may_answer.set()
    assert (await first)[1]["model"] == "big"


async def test_a_header_pins_the_first_variant_or_prefers_it(two: Site) -> None:
    await both(two)
    share(two, 0.0)
    for pin, model in (("required", "big"), ("preferred", "big"), ("any", "small")):
        assert (await ask(two, x_steppe_variant=pin))[1]["model"] == model
    two.route(await replica_of(two, "small"))  # the large model sleeps
    assert (await ask(two, x_steppe_variant="preferred"))[1]["model"] == "small"
    pinned = asyncio.create_task(ask(two, x_steppe_variant="required"))
    await two.until(lambda: two.gateway.status().models["big"].waiting == 1)
    two.gateway.set_shares({"assistant": {"big": 0.0, "small": 1.0}})
    await asyncio.sleep(0)
    assert not pinned.done()  # it goes to no other one
    await both(two)
    assert (await pinned)[1]["model"] == "big"
    status, answer = await ask(two, x_steppe_variant="large")
    assert status == 400
    assert "x-steppe-variant: asked for one of required, preferred, any, found 'large'" in str(
        answer["error"]["message"]
    )


async def test_a_request_that_waits_goes_to_the_variant_that_has_room(two: Site) -> None:
    waiting = [asyncio.create_task(ask(two)) for _ in range(2)]
    await two.until(lambda: two.gateway.status().models["big"].waiting == 2)
    small = await replica_of(two, "small")
    two.route(small)
    share(two, 1.0)
    assert [(await task)[1]["model"] for task in waiting] == ["small", "small"]
    status = two.gateway.status()
    assert (status.arrived - status.finished, status.waiting) == (0, 0)
    assert status.aliases["assistant"].by_model == {"big": 2, "small": 2}
    assert [r.model for r in two.gateway.drain_finished()] == ["small", "small"]


async def test_no_more_requests_go_to_another_variant_than_it_has_places(two: Site) -> None:
    waiting = [asyncio.create_task(ask(two)) for _ in range(3)]
    await two.until(lambda: two.gateway.status().models["big"].waiting == 3)
    small = await replica_of(two, "small", answers=False)
    two.route(small, limit=1)
    share(two, 1.0)
    await two.until(lambda: len(small.received) == 1)
    assert two.gateway.status().models["big"].waiting == 2
    assert two.gateway.status().models["small"].waiting == 0
    small.may_answer.set()
    two.route(small, limit=8)
    share(two, 1.0)
    assert [(await task)[0] for task in waiting] == [200, 200, 200]


async def test_books_have_the_alias_beside_the_model_that_served_it(two: Site) -> None:
    await both(two)
    share(two, 0.0)
    status, headers, _ = await two.post(body=CHAT, **JSON)
    assert status == 200
    (ended,) = two.gateway.drain_finished()
    assert (ended.model, ended.asked_model, ended.replica) == ("small", "assistant", "r-small")
    id_ = headers["X-Request-Id"]
    shown = json.loads((await two.get(f"/steppe/v1/requests/{id_}"))[2])
    assert (shown["model"], shown["asked_model"]) == ("small", "assistant")
    metrics = (await two.get("/metrics"))[2].decode()
    assert 'steppe_alias_requests_total{alias="assistant",model="small"} 1.0\n' in metrics
    counts = two.gateway.status().aliases["assistant"]
    assert (counts.arrived, counts.answered, counts.output_tokens) == (1, 1, 2)


async def test_the_list_of_models_has_the_alias_with_its_shares(two: Site) -> None:
    two.route(await replica_of(two, "small"))
    share(two, 0.25)
    listed = json.loads((await two.get("/v1/models"))[2])["data"]
    assert [entry["id"] for entry in listed][-1] == "assistant"
    state = listed[-1]["steppe"]
    assert state == {
        "state": "awake",
        "awake": 1,
        "waiting": 0,
        "variants": {"big": 0.25, "small": 0.75},
    }
    assert json.loads((await two.get("/v1/models/assistant"))[2]) == listed[-1]


async def test_tokens_of_a_text_are_counted_by_a_variant_that_is_awake(two: Site) -> None:
    small = await replica_of(two, "small")
    two.route(small)
    body = json.dumps({"model": "assistant", "prompt": "Hi"}).encode()
    assert (await two.post("/tokenize", body, **JSON))[0] == 200
    assert sent_model(small) == "small"


async def test_the_model_of_a_form_is_the_variant(two: Site) -> None:
    big, _ = await both(two)
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nassistant\r\n--x--\r\n'
    status, _, _ = await two.post(
        "/v1/audio/transcriptions", form, Content_Type="multipart/form-data; boundary=x"
    )
    assert status == 200
    assert big.received[-1].body == form.replace(b"assistant", b"big")


async def test_a_refused_request_names_the_soonest_capacity_of_all_variants(two: Site) -> None:
    two.gateway.set_routes((), {"big": 90.0, "small": 7.0})
    waiting = [asyncio.create_task(ask(two)) for _ in range(4)]
    await two.until(lambda: two.gateway.status().waiting == 4)
    status, headers, _ = await two.post(body=CHAT, **JSON)
    assert status == 503
    assert int(headers["Retry-After"]) <= 7
    for task in waiting:
        task.cancel()
