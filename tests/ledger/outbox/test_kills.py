"""The process that sends events is killed at any time: the sink counts each receipt once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from tests.fixtures.postgresql import postgresql
from tests.ledger.outbox.meter import Meter, fill, served

from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.sinks import RefusedEvent, count_to_send, note_refused, note_sent

SENDER = """
import asyncio, sys
from steppe.ledger.outbox.outbox import Outbox, Sink
from steppe.ledger.store.ledger_store import LedgerStore

async def main() -> None:
    sink = Sink(sys.argv[2], most_events=int(sys.argv[3]))
    outbox = Outbox(LedgerStore(sys.argv[1]), sink)
    await outbox.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""
RECEIPTS, KILLS = 3_000, 5


async def start(place: str, url: str, most: int = 5) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", SENDER, place, url, str(most), env=environment
    )


async def until_calls(meter: Meter, calls: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(250):
        while len(meter.calls) < calls:
            assert process.returncode is None
            await asyncio.sleep(0.001)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_sender_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    place, rng = str(tmp_path / "ledger.db"), random.Random(3)
    store, meter = LedgerStore(place), Meter()
    fill(store, 0, RECEIPTS)
    async with served(meter) as url:
        for _ in range(KILLS):
            process = await start(place, url)
            await until_calls(meter, len(meter.calls) + rng.randint(1, 6), process)
            await asyncio.sleep(rng.random() * 0.01)  # any point of a call
            process.send_signal(signal.SIGKILL)
            await process.wait()
        process = await start(place, url, most=200)
        async with asyncio.timeout(250):
            while count_to_send(store, url):
                await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
    assert {id_ for _, id_ in meter.events} == {f"r{number}" for number in range(RECEIPTS)}
    assert sum(meter.calls) >= RECEIPTS
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_place_of_a_sink_is_kept_on_postgresql() -> None:
    with postgresql() as url:
        store = LedgerStore(url)
        fill(store, 0, 5)
        note_sent(store, "a", 3)
        note_sent(store, "a", 1)
        note_refused(store, "a", RefusedEvent(4, "late"))
        note_refused(store, "a", RefusedEvent(4, "again"))
        assert (count_to_send(store, "a"), count_to_send(store, "b")) == (1, 5)
        store.close()
