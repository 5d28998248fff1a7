"""Does the ledger lose or double what it has acknowledged when its process is killed at any point?

One run asks for admissions, books the requests that end, and looks at receipts and heads of the
log, while the process of the ledger (service, store, writer and publisher) is killed by SIGKILL at
random points, also while it starts, and is started again. Meanwhile

- bookings come several at once, out of order, and some of them twice;
- the clock goes on by minutes at each start, so that hours close, and is sometimes set back;
- the disk is full at times: no file of the process may grow (`RLIMIT_FSIZE`);
- a kill may leave the begin of a record behind what is on disk: of the store's WAL and of a file of
  the log.

In the end each booked request has one receipt with the price of its admission, balances are what
was paid in less what the receipts cost, the log has the entries of the store, begins with every
head that it has shown, and the books of all hours add up to the meters.

    python bench/ledger_crashes.py --kills 200 --out bench/results/ledger_crashes.json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import platform
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from ledger_load import CURRENCY, DEPOSITS, TARIFF_FILE, MadeRun
from ledger_process import Acknowledged, Failed, LedgerFolder, LedgerProcess, Message, Started
from ledger_verdict import Verdict, verdict_of
from steppe.ledger.entries import deposited
from steppe.ledger.log.checkpoint import Checkpoint
from steppe.ledger.signing import Note
from steppe.ledger.store.closing import due
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.tree import Head
from steppe.measure.provenance import source_commit
from targets import at_least, at_most

US_PER_S, MINUTE_US = 1_000_000, 60_000_000
HOLD_S = 3 * 86_400.0
"""Longer than all clocks of a benchmark go on: no hold is old before the end."""
LONGEST_S = 60.0
"""Longest wait for an end, s."""
FULL_EVERY, TORN_EVERY, BACK_EVERY = 8, 5, 10
"""In one of so many lives the disk is full, a record is torn, the clock is set back."""


@dataclass
class Notes:
    """What has happened so far.

    Attributes:
        kills: Kills, by what the process did.
        starts_s: Times from a start to the first answer, s.
        full: Lives with a full disk; in some of them space came back.
        torn: Kills after which a record was torn.
        back: Starts at which the clock was set back.
        problems: Answers that were errors, while the disk was not full.
        refusals_of_full_disk: Answers that were errors, while it was.
        shown: Receipts that were shown, by id.
        heads: Heads of the log that were shown.
    """

    kills: Counter[str] = field(default_factory=Counter)
    starts_s: list[float] = field(default_factory=list)
    full: Counter[str] = field(default_factory=Counter)
    torn: int = 0
    back: int = 0
    problems: list[str] = field(default_factory=list)
    refusals_of_full_disk: int = 0
    shown: dict[str, bytes] = field(default_factory=dict)
    heads: dict[int, Head] = field(default_factory=dict)


class Clock:
    """The clock of the run and of the ledger: this machine's, put forward or back."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_us(self) -> int:
        """Return the time, us since the Unix epoch."""
        return time.time_ns() // 1_000 + self.ahead_us


class Life:
    """One life of the ledger's process, with the load of the run on it."""

    def __init__(self, folder: LedgerFolder, run: MadeRun, notes: Notes) -> None:
        self.process, self.run, self.notes = LedgerProcess(folder), run, notes
        self.url, self.is_full, self._begun_s = "", False, time.monotonic()
        self._has_news = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.process.pipe.fileno(), self._read)

    async def listens(self, within_s: float) -> bool:
        """Wait for its address; return whether it came in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self.url:
                    await self.news()
        return bool(self.url)

    async def news(self) -> None:
        """Wait for a message of the process."""
        await self._has_news.wait()
        self._has_news.clear()

    def end(self) -> None:
        """Kill it, and read what it has said until then."""
        asyncio.get_running_loop().remove_reader(self.process.pipe.fileno())
        self.process.kill()
        self._read()

    async def stop(self) -> None:
        """Let it end by itself."""
        asyncio.get_running_loop().remove_reader(self.process.pipe.fileno())
        self.process.ask_to_stop()
        await asyncio.to_thread(self.process.wait)
        self._read()

    def _read(self) -> None:
        messages = self.process.read()
        for message in messages:
            self._take(message)
        if messages:
            self._has_news.set()

    def _take(self, message: Message) -> None:
        match message:
            case Started(url):
                self.url = url
                self.notes.starts_s.append(time.monotonic() - self._begun_s)
            case Acknowledged(number):
                self.run.acknowledge(number)
            case Failed(problem):
                self.note_problem(problem)

    def note_problem(self, problem: str) -> None:
        """Count an answer that is an error."""
        if self.is_full:
            self.notes.refusals_of_full_disk += 1
        else:
            self.notes.problems.append(problem)


async def admit(life: Life, client: aiohttp.ClientSession, rng: random.Random) -> None:
    """Ask for admissions one after another, and give some back."""
    while True:
        asked = life.run.admissions()
        async with client.post(life.url + "/admissions", json=asked) as answer:
            if answer.status != 200:
                life.note_problem(f"admissions: {answer.status} {(await answer.text())[:200]}")
                await asyncio.sleep(0.02)
                continue
            for each, outcome in zip(asked, await answer.json(), strict=True):
                life.run.note_outcome(each, outcome)
        if rng.random() < 0.1:
            gone = life.run.to_release()
            async with client.post(life.url + "/admissions/released", json=gone) as answer:
                if answer.status != 200:
                    life.note_problem(f"released: {answer.status}")
        await asyncio.sleep(rng.random() * 0.004)


async def hand_over(life: Life) -> None:
    """Hand bookings over, again and again until they are acknowledged."""
    while True:
        for booking in life.run.next_bookings():
            life.process.hand_over(booking)
        with contextlib.suppress(TimeoutError):
            before = life.run.acknowledged
            async with asyncio.timeout(0.05):
                while life.run.acknowledged == before:
                    await life.news()


async def look(life: Life, client: aiohttp.ClientSession, rng: random.Random) -> None:
    """Look at receipts of acknowledged bookings, and at the head of the log."""
    while True:
        await asyncio.sleep(rng.random() * 0.02)
        if life.run.acknowledged:
            booking = life.run.bookings[rng.randrange(life.run.acknowledged)]
            for each in booking.requests[:1]:
                headers = {"x-steppe-tenant": each.tenant}
                url = f"{life.url}/steppe/v1/receipts/{each.id}"
                async with client.get(url, headers=headers) as answer:
                    body = await answer.read()
                    if answer.status == 200:
                        life.run.faults["receipts that changed"] += (
                            life.notes.shown.setdefault(each.id, body) != body
                        )
                    else:
                        life.note_problem(f"receipt {each.id}: {answer.status}")
        async with client.get(life.url + "/steppe/v1/log/checkpoint") as answer:
            if answer.status == 200:
                head = Checkpoint.read(Note.read(await answer.text()).text).head
                known = life.notes.heads.setdefault(head.size, head)
                life.run.faults["heads of one size that differ"] += known != head


async def loaded(life: Life, rng: random.Random, until: Awaitable[None]) -> None:
    """Keep the load of the run on a ledger until something has happened, and kill it."""

    async def quietly(work: Any) -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            await work

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LONGEST_S)) as client:
        works = (admit(life, client, rng), admit(life, client, rng))
        works_more = (hand_over(life), look(life, client, rng))
        tasks = [asyncio.create_task(quietly(each)) for each in (*works, *works_more)]
        await until
        life.end()
        tasks[2].cancel()
        await asyncio.wait(tasks, timeout=0.5)  # answers that had come before the kill
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def fill_disk(life: Life, folder: Path, rng: random.Random, *, for_good: bool) -> None:
    """Let the disk be full at some time, until the kill or for a fifth of a second."""
    await asyncio.sleep(rng.random() * 0.3)
    stores = (folder / name for name in ("ledger.db", "ledger.db-wal"))
    largest = max(path.stat().st_size for path in stores)
    life.is_full = True
    life.process.limit_files(largest // 2 + rng.randrange(50_000))
    life.notes.full["until the kill" if for_good else "with space again"] += 1
    if for_good:
        return
    await asyncio.sleep(0.2)
    life.process.limit_files(None)
    before = life.run.acknowledged
    async with asyncio.timeout(LONGEST_S):  # it goes on, without a new start
        while life.run.acknowledged == before:
            await asyncio.sleep(0.01)


async def some_time(life: Life, folder: Path, rng: random.Random, number: int) -> None:
    """Wait for the point of a kill."""
    if number % FULL_EVERY == 3:
        for_good = number // FULL_EVERY % 2 == 1
        await fill_disk(life, folder, rng, for_good=for_good)
    await asyncio.sleep(rng.random() * 0.8)


def tear(folder: Path, rng: random.Random) -> None:
    """Leave the begin of a record behind what is on disk, as a crash of the machine may."""
    with contextlib.suppress(FileNotFoundError), (folder / "ledger.db-wal").open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(rng.randbytes(rng.randrange(1, 4_000)))
    for name in ("checkpoint.draft", "entries/000.draft", "0/000.draft"):
        path = folder / "log" / name
        if path.parent.is_dir():
            path.write_bytes(rng.randbytes(rng.randrange(100)))


async def one_life(
    folder: LedgerFolder, run: MadeRun, notes: Notes, rng: random.Random, number: int
) -> None:
    """Start the ledger, load it, and kill it at some point."""
    life = Life(folder, run, notes)
    if rng.random() < 0.15:
        came = await life.listens(rng.random() * 0.15)
        life.end()
        notes.kills["just after its start" if came else "while it started"] += 1
    else:
        assert await life.listens(LONGEST_S), f"no ledger after a kill: {notes.problems[-1:]}"
        await loaded(life, rng, some_time(life, folder.path, rng, number))
        drafts = list((folder.path / "log").rglob("*.draft"))
        notes.kills["while it wrote the log" if drafts else "under load"] += 1
        for draft in drafts:  # the next ones are of the next kill
            draft.unlink()
    if number % TORN_EVERY == 2:
        notes.torn += 1
        tear(folder.path, rng)


async def finish(folder: LedgerFolder, run: MadeRun, notes: Notes) -> None:
    """Hand the last bookings over; then close all hours, and give all holds back."""
    run.book(is_last=True)
    life = Life(folder, run, notes)
    assert await life.listens(LONGEST_S)
    async with asyncio.timeout(LONGEST_S):
        while run.waiting:
            life.process.hand_over(run.waiting[0])
            await life.news()
    await life.stop()
    later_us = folder.ahead_us + round(HOLD_S * US_PER_S) + 180 * MINUTE_US
    life = Life(LedgerFolder(folder.path, folder.tariff, later_us, HOLD_S), run, notes)
    assert await life.listens(LONGEST_S)
    store = LedgerStore(str(folder.path / "ledger.db"))
    now_us = time.time_ns() // 1_000 + later_us
    async with asyncio.timeout(5 * LONGEST_S):
        while True:
            with store.reading() as connection:
                if not due(connection, now_us):
                    break
            await asyncio.sleep(0.05)
    store.close()
    await life.stop()


def pay_in(folder: Path) -> None:
    """Give the tenants what they pay with."""
    folder.mkdir(parents=True, exist_ok=True)
    store = LedgerStore(str(folder / "ledger.db"))
    for tenant, amount in DEPOSITS.items():
        store.move([deposited(f"paid-{tenant}", tenant, CURRENCY, amount)], 1)
    store.close()


async def crash(place: Path, kills: int, seed: int) -> tuple[MadeRun, Notes, Verdict]:
    """Run a ledger in a folder, and kill it so many times."""
    rng, clock, notes = random.Random(seed), Clock(), Notes()
    run = MadeRun(random.Random(seed + 1), clock.now_us)
    tariff, folder = place / "tariff.yaml", place / "ledger"
    tariff.write_text(TARIFF_FILE)
    pay_in(folder)
    for number in range(kills):
        clock.ahead_us += rng.randrange(25 * MINUTE_US)
        if number % BACK_EVERY == 7:
            notes.back += 1
            clock.ahead_us -= 90 * MINUTE_US
        current = LedgerFolder(folder, tariff, clock.ahead_us, HOLD_S)
        await one_life(current, run, notes, rng, number)
    await finish(LedgerFolder(folder, tariff, clock.ahead_us, HOLD_S), run, notes)
    return run, notes, verdict_of(folder, run, notes.shown, list(notes.heads.values()))


def document(run: MadeRun, notes: Notes, verdict: Verdict) -> dict[str, Any]:
    """Return the benchmark's last line."""
    starts_s = sorted(notes.starts_s)
    p95_s = starts_s[min(len(starts_s) - 1, math.ceil(0.95 * len(starts_s)))]
    results = {
        "kills": dict(notes.kills),
        "full_disk": dict(notes.full),
        "refusals_of_full_disk": notes.refusals_of_full_disk,
        "torn_records": notes.torn,
        "clock_set_back": notes.back,
        "start_p50_s": statistics.median(starts_s),
        "start_p95_s": p95_s,
        "admitted": len(run.terms),
        "refused": run.refused,
        "bookings": len(run.bookings),
        "bookings_handed_over": run.handed_over,
        "booked_requests": len(run.booked),
        "receipts_looked_at": len(notes.shown),
        "heads_looked_at": len(notes.heads),
        "wrong_answers": {name: count for name, count in run.faults.items() if count},
        "problems": notes.problems[:10],
        "ledger": asdict(verdict) | {"faults": verdict.faults[:10]},
    }
    nothing = {
        "acknowledged requests without a receipt": verdict.lost,
        "receipts and entries that are there twice": verdict.doubled,
        "receipts that say something else than was booked": verdict.wrong,
        "receipts shown before with other bytes": verdict.changed,
        "balances that are not exact": verdict.balances,
        "heads shown before that are no begin of the log": verdict.heads,
        "faults that the audits found": len(verdict.faults),
        "answers that contradict earlier ones": run.faults.total(),
        "errors while the disk was not full": len(notes.problems),
    }
    return {
        "bench": "ledger_crashes",
        "commit": source_commit(),
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "gpu": None},
        "versions": {"python": platform.python_version()},
        "results": results,
        "targets": [
            at_least("kills", notes.kills.total(), "kills", 200),
            *(at_most(name, count, "", 0) for name, count in nothing.items()),
        ],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = asyncio.run(crash(Path(place), arguments.kills, arguments.seed))
    made = document(*found)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps(made))


if __name__ == "__main__":
    main()
