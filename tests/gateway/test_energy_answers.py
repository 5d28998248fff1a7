"""Answers with the energy of their request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.gateway.site import Cut, FakeReplica, Site, SiteFactory

from steppe.gateway.held_tail import HeldTail
from steppe.gateway.server import DriverNews, FinishedRequest, RequestEnergy

JSON = {"Content_Type": "application/json"}
STREAMED = b'{"stream": true, "stream_options": {"include_energy": true}}'


def energy_of(request: FinishedRequest, energy_j: float, *, is_final: bool = True) -> RequestEnergy:
    return RequestEnergy(request.id, energy_j, "counter", "gpu", is_final)


def settle(site: Site, energy_j: float, *, is_final: bool = True) -> list[FinishedRequest]:
    """Do what the driver does after the requests that have ended: tell their energy."""
    ended = site.gateway.drain_finished()
    energies = tuple(energy_of(request, energy_j, is_final=is_final) for request in ended)
    site.gateway.tell(DriverNews(energies))
    return ended


@pytest.fixture
async def patient(open_site: SiteFactory) -> Site:
    return await open_site(energy_wait_s=20.0)


async def whole(site: Site, **headers: str) -> asyncio.Task[Any]:
    return asyncio.create_task(site.post(body=b"{}", X_Steppe_Energy="true", **headers))


def events(text: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in text.split(b"\n\n") if line]
    return [line if line == b"[DONE]" else json.loads(line) for line in lines]


async def test_a_whole_answer_waits_for_its_energy(patient: Site) -> None:
    await patient.awake_replica()
    asked = await whole(patient)
    await patient.until(lambda: patient.gateway.status().finished == 1)
    assert patient.gateway.status().outstanding == {"r0": 0}
    assert not asked.done()
    settle(patient, 12.5, is_final=False)
    status, headers, body = await asked
    assert (status, headers["X-Steppe-Energy-Joules"]) == (200, "12.5")
    usage = json.loads(body)["usage"]
    wanted = {"joules": 12.5, "source": "counter", "boundary": "gpu", "final": False}
    assert (usage["prompt_tokens"], usage["energy"]) == (11, wanted)


async def test_an_answer_has_no_energy_unless_it_is_asked_for(patient: Site) -> None:
    await patient.awake_replica()
    _, headers, body = await patient.post()
    assert "X-Steppe-Energy-Joules" not in headers
    assert "energy" not in json.loads(body)["usage"]


async def test_an_energy_that_comes_too_late_is_estimated_from_those_before(
    open_site: SiteFactory,
) -> None:
    site = await open_site(energy_wait_s=0.0)
    await site.awake_replica()
    _, headers, body = await (await whole(site))
    assert "X-Steppe-Energy-Joules" not in headers  # nothing is known yet
    assert "energy" not in json.loads(body)["usage"]
    settle(site, 8.0)
    _, headers, body = await (await whole(site))
    energy = json.loads(body)["usage"]["energy"]
    assert energy == {"joules": 8.0, "source": "estimated", "boundary": "gpu", "final": False}
    assert headers["X-Steppe-Energy-Joules"] == "8"
    listed = json.loads((await site.get("/v1/models"))[2])["data"][0]
    assert listed["steppe"]["joules_per_token"] == 4.0


async def test_a_refused_request_does_not_wait(open_site: SiteFactory) -> None:
    site = await open_site(max_waiting=0, energy_wait_s=1e6)
    status, _, _ = await (await whole(site))
    assert status == 503


@pytest.mark.parametrize("size", [1, 7, 60, 10_000])
async def test_a_stream_has_its_energy_in_the_usage_before_the_end(
    patient: Site, chat_stream: bytes, size: int
) -> None:
    replica = await patient.awake_replica()
    replica.stream = [chat_stream[at : at + size] for at in range(0, len(chat_stream), size)]
    async with patient.client.post(
        patient.url + "/v1/chat/completions",
        data=STREAMED,
        headers={"Content-Type": "application/json"},
    ) as answer:
        await patient.until(lambda: patient.gateway.status().finished == 1)
        settle(patient, 3.0)
        found = events(await answer.read())
    plain = events(chat_stream)
    assert found[:-2] == plain[:-2]
    assert found[-1] == b"[DONE]"
    energy = found[-2]["usage"].pop("energy")
    assert (energy["joules"], energy["final"]) == (3.0, True)
    assert found[-2] == plain[-2]
    sent = json.loads(replica.received[0].body)
    assert sent["stream_options"] == {"include_usage": True}


async def test_the_text_of_a_stream_does_not_wait(patient: Site, chat_stream: bytes) -> None:
    replica = await patient.awake_replica()
    replica.stream = [chat_stream]
    head = chat_stream[: chat_stream.index(b'"choices":[],')]
    head = head[: head.rindex(b"\n\n") + 2]
    async with patient.client.post(
        patient.url + "/v1/chat/completions",
        data=STREAMED,
        headers={"Content-Type": "application/json"},
    ) as answer:
        assert await answer.content.readexactly(len(head)) == head
        await patient.until(lambda: patient.gateway.status().finished == 1)
        settle(patient, 3.0)
        assert b'"joules":3.0' in await answer.read()


async def test_a_stream_that_breaks_ends_without_energy(patient: Site, chat_stream: bytes) -> None:
    replica = await patient.awake_replica()
    replica.stream = [chat_stream[:300], Cut()]
    sent = asyncio.create_task(patient.post(body=STREAMED, **JSON))
    await patient.until(lambda: patient.gateway.status().finished == 1)
    settle(patient, 3.0)
    _, _, body = await sent
    assert b"event: error" in body
    assert b"[DONE]" not in body
    assert b"joules" not in body


async def test_an_ended_request_can_be_asked_for(patient: Site) -> None:
    replica: FakeReplica = await patient.awake_replica()
    await patient.post(X_Request_Id="mine", X_Steppe_Tenant="lab")
    status, _, body = await patient.get("/steppe/v1/requests/mine")
    found = json.loads(body)
    assert (status, found["tenant"], found["model"], found["replica"]) == (
        200,
        "lab",
        "m",
        replica.name,
    )
    assert found["usage"] == {
        "prompt_tokens": 11,
        "cached_tokens": 8,
        "completion_tokens": 2,
        "energy": None,
    }
    settle(patient, 9.0)
    found = json.loads((await patient.get("/steppe/v1/requests/mine"))[2])
    assert found["usage"]["energy"]["joules"] == 9.0
    status, _, body = await patient.get("/steppe/v1/requests/other")
    assert (status, json.loads(body)["error"]["code"]) == (404, "request_not_found")


def test_a_stream_of_the_responses_api_has_its_energy_in_its_last_event() -> None:
    tail = HeldTail()
    first = b'event: response.output_text.delta\ndata: {"delta":"a"}\n\n'
    last = (
        b"event: response.completed\ndata: "
        b'{"type":"response.completed","response":{"usage":{"input_tokens":1}}}\n\n'
    )
    assert tail.take(first) == first
    assert tail.take(last) == b""
    assert b'"usage":{"input_tokens":1,"energy":{"joules":1}}' in tail.release({"joules": 1}, {})


def test_a_stream_without_usage_gets_an_event_with_the_energy() -> None:
    tail = HeldTail()
    assert tail.take(b"data: {}\n\ndata: [DONE]\n\n") == b"data: {}\n\n"
    released = tail.release({"joules": 1}, {"usage": {"completion_tokens": 2}})
    wanted = b'data: {"usage":{"completion_tokens":2,"energy":{"joules":1}}}\n\ndata: [DONE]\n\n'
    assert released == wanted
