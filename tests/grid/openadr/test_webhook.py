from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from steppe.grid.openadr.intervals import RefusedEventError
from steppe.grid.openadr.messages import Notification
from steppe.grid.openadr.webhook import webhook

TOKEN = "a token that is not guessed"


class Receiver:
    """Keeps what the webhook hands on; refuses what is named bad."""

    def __init__(self) -> None:
        self.taken: list[Notification] = []

    def take(self, notification: Notification) -> None:
        if notification.object["id"] == "bad":
            raise RefusedEventError("event bad: it is refused")
        self.taken.append(notification)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


async def served(application: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/events"


@pytest.fixture
async def url(receiver: Receiver) -> AsyncIterator[str]:
    runner, url = await served(webhook("/events", TOKEN, receiver.take, most_bytes=2000))
    yield url
    await runner.cleanup()


def message(name: str = "event-1", version: str = "1", **fields: Any) -> dict[str, Any]:
    found = {"id": name, "modificationDateTime": version}
    return {"objectType": "EVENT", "operation": "CREATE", "object": found, **fields}


async def post(url: str, body: Any, token: str | None = TOKEN) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json=body) as response,
    ):
        return response.status, await response.text()


async def test_a_notification_with_our_token_is_taken(url: str, receiver: Receiver) -> None:
    assert (await post(url, message()))[0] == 200
    assert [each.object["id"] for each in receiver.taken] == ["event-1"]


@pytest.mark.parametrize("token", [None, "", "another token, of another", TOKEN[:-1], TOKEN + "x"])
async def test_a_notification_without_our_token_is_refused(
    url: str, receiver: Receiver, token: str | None
) -> None:
    status, why = await post(url, message(), token)
    assert (status, receiver.taken) == (401, [])
    assert "bearer token" in why


async def test_a_notification_that_is_sent_twice_is_taken_once(
    url: str, receiver: Receiver
) -> None:
    assert [(await post(url, message()))[0] for _ in range(3)] == [200, 200, 200]
    assert len(receiver.taken) == 1
    await post(url, message(version="2"))
    await post(url, message(operation="DELETE"))
    assert len(receiver.taken) == 3


async def test_a_notification_that_is_too_long_is_refused(url: str, receiver: Receiver) -> None:
    assert (await post(url, message(more="x" * 3000)))[0] == 413
    assert receiver.taken == []


@pytest.mark.parametrize("body", [[], {}, "text", message(operation="PATCH"), message(object=[])])
async def test_a_notification_of_another_form_is_refused(
    url: str, receiver: Receiver, body: Any
) -> None:
    assert (await post(url, body))[0] == 400
    assert receiver.taken == []


async def test_an_event_that_is_refused_is_answered_with_the_reason_each_time(url: str) -> None:
    for _ in range(2):
        status, why = await post(url, message("bad"))
        assert status == 422
        assert "event bad: it is refused" in why


async def test_a_form_is_refused(url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data={"a": "b"}, headers=headers) as response:
            assert response.status == 415
        async with session.get(url, headers=headers) as response:
            assert response.status == 405


async def test_a_sender_outside_the_networks_that_are_named_is_refused(receiver: Receiver) -> None:
    allowed = (ipaddress.ip_network("192.0.2.0/24"),)
    runner, url = await served(webhook("/events", TOKEN, receiver.take, allowed=allowed))
    try:
        status, why = await post(url, message())
    finally:
        await runner.cleanup()
    assert (status, receiver.taken) == (403, [])
    assert "this address" in why
