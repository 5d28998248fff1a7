"""A sink over HTTP counts each receipt once, whatever fails between it and the store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.ledger.outbox.meter import Meter, fill, receipts, served

from steppe.ledger.outbox.outbox import Outbox, Sink
from steppe.ledger.receipt import Receipt
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.sinks import (
    RefusedEvent,
    count_to_send,
    note_refused,
    note_sent,
    receipts_to_send,
    refused_events,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    opened = LedgerStore(str(tmp_path / "ledger.sqlite"))
    yield opened
    opened.close()


@pytest.fixture
async def meter() -> AsyncIterator[tuple[Meter, str]]:
    meter = Meter()
    async with served(meter) as url:
        yield meter, url


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def outbox_of(store: LedgerStore, url: str, most: int = 7, token: Path | None = None) -> Outbox:
    return Outbox(store, Sink(url, token, most, longest_wait_s=0.02), first_wait_s=0.005)


def enough(meter: Meter, store: LedgerStore, url: str) -> Callable[[], bool]:
    calls = len(meter.calls) + 5
    return lambda: len(meter.calls) > calls or count_to_send(store, url) == 0


async def test_each_receipt_is_an_event_in_order(
    store: LedgerStore, meter: tuple[Meter, str]
) -> None:
    counted, url = meter
    fill(store, 0, 20)
    outbox = outbox_of(store, url)
    await outbox.start()
    await until(lambda: len(counted.events) == 20)
    fill(store, 20, 3)
    outbox.wake()
    await until(lambda: outbox.sent.events == 23)
    await outbox.stop()
    assert counted.calls == [7, 7, 6, 3]
    assert [Receipt(**event["data"]) for event in counted.events.values()] == receipts(0, 23)
    assert count_to_send(store, url) == 0
    assert counted.headers == [""] * 4


async def test_a_sink_that_fails_in_every_way_counts_each_receipt_once(
    store: LedgerStore, meter: tuple[Meter, str]
) -> None:
    counted, url = meter
    rng = random.Random(5)

    def fail(_events: list[dict[str, Any]]) -> web.Response | None:
        return rng.choice([None, None, web.Response(status=503), web.Response(status=500)])

    def lose_the_answer(_events: list[dict[str, Any]]) -> web.Response | None:
        if rng.random() < 0.3:
            return web.Response(status=502)  # taken, but the sender does not learn it
        return None

    counted.before, counted.after = fail, lose_the_answer
    fill(store, 0, 200)
    while count_to_send(store, url):
        outbox = outbox_of(store, url)
        await outbox.start()
        await until(enough(counted, store, url))
        await outbox.stop()  # in the middle of whatever it does
    assert len(counted.events) == 200
    assert sum(event["data"]["energy_uj"] for event in counted.events.values()) == sum(range(200))
    assert sum(counted.calls) > 200


async def test_an_event_that_a_sink_calls_wrong_is_set_aside(
    store: LedgerStore, meter: tuple[Meter, str]
) -> None:
    counted, url = meter

    def refuse(events: list[dict[str, Any]]) -> web.Response | None:
        if any(event["id"] == "r3" for event in events):
            return web.Response(status=400, text="no such\nmeter")
        return web.Response(status=413) if len(events) > 4 else None

    counted.before = refuse
    fill(store, 0, 10)
    outbox = outbox_of(store, url, 10)
    await outbox.start()
    await until(lambda: outbox.sent.events == 9)
    await outbox.stop()
    assert {id_ for _, id_ in counted.events} == {f"r{n}" for n in range(10)} - {"r3"}
    assert refused_events(store, url) == [RefusedEvent(4, "found status 400: no such meter")]
    assert (outbox.sent.refused, count_to_send(store, url)) == (1, 0)


@pytest.mark.parametrize("status", [302, 401, 404, 429, 500])
async def test_a_sink_that_takes_nothing_now_gets_all_later(
    store: LedgerStore, meter: tuple[Meter, str], status: int
) -> None:
    counted, url = meter
    answer = {"retry-after": "60", "location": "/elsewhere"}
    counted.before = lambda _events: web.Response(status=status, headers=answer)
    fill(store, 0, 3)
    outbox = outbox_of(store, url)
    await outbox.start()
    await until(lambda: outbox.sent.failed > 1)
    assert f"found status {status}" in outbox.sent.problem
    counted.before = lambda _events: None
    await until(lambda: outbox.sent.events == 3)
    assert outbox.sent.problem == ""
    await outbox.stop()


async def test_a_sink_that_is_not_there_is_a_problem(store: LedgerStore, tmp_path: Path) -> None:
    fill(store, 0, 1)
    outbox = outbox_of(store, "http://127.0.0.1:1/events")
    await outbox.start()
    await until(lambda: outbox.sent.failed > 1)
    await outbox.stop()
    missing = outbox_of(store, "http://127.0.0.1:1/events", token=tmp_path / "token")
    await missing.start()
    await until(lambda: "No such file" in missing.sent.problem)
    await missing.stop()
    assert count_to_send(store, "http://127.0.0.1:1/events") == 1


async def test_the_token_is_that_of_its_file(
    store: LedgerStore, meter: tuple[Meter, str], tmp_path: Path
) -> None:
    counted, url = meter
    (tmp_path / "token").write_text("first\n")
    outbox = outbox_of(store, url, token=tmp_path / "token")
    await outbox.start()
    for number, token in enumerate(("first", "second")):
        (tmp_path / "token").write_text(f"{token}\n")
        fill(store, number, 1)
        outbox.wake()
        await until(lambda number=number: outbox.sent.events == number + 1)  # type: ignore[misc]
    await outbox.stop()
    assert counted.headers == ["Bearer first", "Bearer second"]


def test_the_place_of_a_sink_never_goes_back(store: LedgerStore) -> None:
    fill(store, 0, 5)
    assert [place for place, _ in receipts_to_send(store, "a", 3)] == [1, 2, 3]
    note_sent(store, "a", 3)
    note_sent(store, "a", 1)
    note_refused(store, "a", RefusedEvent(2, "late"))
    note_refused(store, "a", RefusedEvent(2, "again"))
    assert [place for place, _ in receipts_to_send(store, "a", 3)] == [4, 5]
    assert refused_events(store, "a") == [RefusedEvent(2, "late")]
    assert (count_to_send(store, "a"), count_to_send(store, "b")) == (2, 5)
