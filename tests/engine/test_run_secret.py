from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from steppe.engine.control_block import ControlBlock
from steppe.engine.run_secret import HEADER, RunSecretGate, new_secret, secret_headers
from steppe.engine.seam import Seam
from steppe.engine.synthetic import SyntheticSettings, start_synthetic
from steppe.errors import UsageError
from steppe.gateway.server import Gateway, GatewayModel, GatewaySettings, Route
from steppe.load.client import ChatOptions, ServerTarget, model_limits, stream_chat
from steppe.load.stream import ChatStream, Completed

SECRET = "s" * 64


class Door:
    """An ASGI app, and what it was asked and answered."""

    def __init__(self, secret: str) -> None:
        self.asked: list[str] = []
        self.sent: list[Any] = []
        self._gate = RunSecretGate(self._app, secret)

    async def ask(self, *headers: tuple[bytes, bytes], kind: str = "http") -> None:
        async def receive() -> dict[str, Any]:
            return {}

        async def send(message: Any) -> None:
            self.sent.append(message)

        await self._gate({"type": kind, "headers": headers}, receive, send)

    async def _app(self, scope: Any, _receive: Any, _send: Any) -> None:
        self.asked.append(scope["type"])


def test_every_run_has_another_secret() -> None:
    assert len({new_secret() for _ in range(10)}) == 10
    assert len(new_secret()) == 64
    assert secret_headers("") == ()


@pytest.mark.parametrize("found", [b"", b"t" * 64, b"s" * 63, "ü".encode() * 32])
async def test_a_request_without_the_secret_is_a_401_and_reaches_no_app(found: bytes) -> None:
    door = Door(SECRET)
    await door.ask((b"x-steppe-run", found), (b"host", b"a"))
    assert door.asked == []
    assert door.sent[0]["status"] == 401
    assert b"not_this_run" in door.sent[1]["body"]
    assert SECRET.encode() not in door.sent[1]["body"]


async def test_the_secret_opens_the_app_and_no_secret_leaves_it_open() -> None:
    for secret in (SECRET, ""):
        door = Door(secret)
        await door.ask((b"host", b"a"), (HEADER.lower().encode(), SECRET.encode()))
        assert door.asked == ["http"]


async def test_web_sockets_are_closed_and_the_lifespan_passes() -> None:
    door = Door(SECRET)
    await door.ask(kind="websocket")
    assert door.sent == [{"type": "websocket.close", "code": 1008}]
    await door.ask(kind="lifespan")
    assert door.asked == ["lifespan"]


async def test_a_replica_without_an_app_of_its_own_asks_for_the_secret_too(tmp_path: Path) -> None:
    block = ControlBlock.create(tmp_path / "block")
    seam = Seam(str(block.path))
    engine = await start_synthetic(SyntheticSettings("m", 4), seam, "127.0.0.1", SECRET)
    async with aiohttp.ClientSession() as client:
        for headers, expected in (({}, 401), (dict(secret_headers(SECRET)), 200)):
            for path in ("/health", "/v1/models"):
                url = f"http://127.0.0.1:{engine.port}{path}"
                async with client.get(url, headers=headers) as answer:
                    assert answer.status == expected
    await engine.stop()
    block.close()


async def test_the_gateway_and_the_load_client_carry_the_secret_to_a_replica(
    tmp_path: Path,
) -> None:
    block = ControlBlock.create(tmp_path / "block")
    engine = await start_synthetic(
        SyntheticSettings("m", 4), Seam(str(block.path)), "127.0.0.1", SECRET
    )
    replica = f"http://127.0.0.1:{engine.port}"
    gateway = Gateway(
        GatewaySettings(
            "127.0.0.1",
            0,
            10,
            30.0,
            (GatewayModel("m", 2.0, 1.0),),
            replica_headers=secret_headers(SECRET),
        )
    )
    url = await gateway.start()
    gateway.set_routes((Route("r0", replica, 4),), None)
    body = {"model": "m", "prompt": "the wind", "max_tokens": 3}
    async with aiohttp.ClientSession() as client:
        async with client.post(url + "/v1/completions", json=body) as answer:
            assert (answer.status, SECRET in await answer.text()) == (200, False)
        wrong = {HEADER: "w" * 64}
        async with client.post(url + "/v1/completions", json=body, headers=wrong) as answer:
            assert answer.status == 200
        async with client.get(url + "/v1/models") as answer:
            assert (await answer.json())["data"][0]["owned_by"] == "steppe"
        text = ChatOptions().body("m", "a b c", 3)
        for headers in ((), secret_headers(SECRET)):
            target = ServerTarget(replica, "m", headers)
            assert SECRET not in repr(target)
            found = await stream_chat(client, target, text, time.monotonic, ChatStream())
            assert isinstance(found, Completed) == bool(headers), found
    assert list(await model_limits(replica, secret_headers(SECRET))) == ["m"]
    with pytest.raises(UsageError, match="found status 401"):
        await model_limits(replica)
    await gateway.stop()
    await engine.stop()
    block.close()
