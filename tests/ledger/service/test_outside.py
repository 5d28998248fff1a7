"""Witnesses sign the heads of a running service, and its sink gets the event of each receipt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from tests.ledger.log.test_witness import WITNESS
from tests.ledger.service.running import Running, ServiceFactory, booked, booking

from steppe.config import LedgerSection
from steppe.errors import UsageError
from steppe.ledger.log.checkpoint import Checkpoint, Proof
from steppe.ledger.log.log import LogReader
from steppe.ledger.log.witness import check_cosignatures
from steppe.ledger.service.outside import witnesses_of
from steppe.ledger.signing import Note, PrivateKey
from steppe.ledger.verifier.verify_receipt import check_entry
from steppe.ledger.witnesses.folder import WitnessFolder
from steppe.ledger.witnesses.server import WitnessServer

KEY = PrivateKey("hohhot", bytes(range(32)))
DEAD = {"url": "http://127.0.0.1:1", "key": WITNESS.public.text}


@pytest.fixture
async def witness(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """A witness of the log `hohhot`, as the configuration names it."""
    folder = WitnessFolder(tmp_path / "witness")
    server = WitnessServer(folder, WITNESS, {"hohhot": (KEY.public,)})
    yield {"url": await server.start("127.0.0.1", 0), "key": WITNESS.public.text}
    await server.stop()
    folder.close()


@pytest.fixture
async def sink() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    events: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        events.extend(orjson.loads(await request.read()))
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/events", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/events", events
    await runner.cleanup()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    KEY.write(tmp_path / "key")
    return tmp_path / "key"


async def metrics_of(running: Running) -> str:
    _, body = await running.call("GET", "/metrics")
    return body.decode()


async def test_a_head_is_cosigned_and_each_receipt_is_an_event(
    open_service: ServiceFactory,
    witness: dict[str, str],
    sink: tuple[str, list[dict[str, Any]]],
    key: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("steppe.ledger.service.outside.LAST_S", 60.0)
    url, events = sink
    running = await open_service(key=key, witnesses=[witness], sink={"url": url})
    await running.service.take(booking(1, booked("r1"), metered_uj=1_000))
    proof = Proof.read(await running.proof_of("/steppe/v1/receipts/r1"))
    async with asyncio.timeout(30):
        while not check_cosignatures(proof.checkpoint, [WITNESS.public], 0) or not events:
            await asyncio.sleep(0.02)
            proof = Proof.read(await running.proof_of("/steppe/v1/receipts/r1"))
    assert proof.check(
        (await running.call("GET", "/steppe/v1/receipts/r1"))[1], "hohhot", [KEY.public]
    )
    verified = check_entry(
        (await running.call("GET", "/steppe/v1/receipts/r1"))[1], proof.text, KEY.public.text
    )
    assert verified[:2] == ("hohhot", 2)  # the file for customers leaves cosignatures out
    _, head = await running.call("GET", "/steppe/v1/log/checkpoint")
    assert check_cosignatures(head.decode(), [WITNESS.public], 1)
    asked = {
        'steppe_ledger_witness_signed_entries{witness="grid.example/w1"} 2.0',
        'steppe_ledger_events_total{outcome="sent"} 1.0',
    }
    async with asyncio.timeout(30):  # the sink has an event before the service counts it
        while not asked <= set((await metrics_of(running)).splitlines()):
            await asyncio.sleep(0.02)
    await running.service.take(booking(2, booked("r2"), metered_uj=2_000))
    await running.stop()  # the last head and the last event leave before the end
    log = LogReader(running.folder / "log", "hohhot", [KEY.public])
    assert Checkpoint.read(Note.read(log.cosigned()).text).head.size == 3
    assert [event["id"] for event in events] == ["r1", "r2"]


async def test_the_books_do_not_wait_for_a_witness_or_a_sink_that_is_not_there(
    open_service: ServiceFactory, key: Path
) -> None:
    sink = {"url": "http://127.0.0.1:1/events"}
    running = await open_service(key=key, witnesses=[DEAD], sink=sink)
    await running.service.take(booking(1, booked("r1"), metered_uj=1_000))
    proof = Proof.read(await running.proof_of("/steppe/v1/receipts/r1"))
    assert proof.index == 1
    async with asyncio.timeout(30):
        while True:
            metrics = (await running.call("GET", "/metrics"))[1].decode()
            if "steppe_ledger_sink_failures_total 0.0" not in metrics:
                break
            await asyncio.sleep(0.02)
    await running.stop()


@pytest.mark.parametrize(
    ("witnesses", "message"),
    [
        ([{**DEAD, "key": "none"}], "http://127.0.0.1:1: asked for a key `name"),
        ([{**DEAD, "key": KEY.public.text}], "asked for a witness's key, found that of a log"),
        ([DEAD, DEAD], "asked for each once, found grid.example/w1 twice"),
    ],
)
def test_a_witness_that_cannot_be_is_refused(witnesses: list[dict[str, str]], message: str) -> None:
    section = LedgerSection.model_validate({"witnesses": witnesses})
    with pytest.raises(UsageError, match=f"ledger.witnesses: .*{message}"):
        witnesses_of(section)
