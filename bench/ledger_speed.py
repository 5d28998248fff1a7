"""How many receipts a second does the ledger write on one core, and how fast is its log checked?

Receipts: bookings are handed over one after another, as the driver of a run does, and each is on
disk before the next (SQLite: WAL, `synchronous=FULL`). Every request has a hold, which is captured
in the same transaction, and a price. The publisher adds the entries to the log and signs its head
once a second beside that. All of it is one process on one core; a PostgreSQL server has processes
of its own, on any core. Admissions, which set the holds aside, are timed apart, in groups as the
gateway sends them.

Log: one of a million receipts; every entry is hashed and compared with the tree, and the root with
the signed head. Time is that of the wall: other work on the machine makes it longer.

    python bench/ledger_speed.py
    python bench/ledger_speed.py --store postgresql+psycopg://steppe@/postgres
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from rich.console import Console
from rich.table import Table

from steppe.ledger.admission import Admission, AdmissionRules, AdmissionTerms
from steppe.ledger.booking import BookedRequest, BookedTotals, Booking
from steppe.ledger.entries import deposited
from steppe.ledger.log.audit import check_log
from steppe.ledger.log.log import Log, LogReader
from steppe.ledger.log.witness import cosign
from steppe.ledger.periods.closing import HOUR_US
from steppe.ledger.receipt import Receipt
from steppe.ledger.service.opening import log_tariffs
from steppe.ledger.service.publisher import Publisher
from steppe.ledger.service.writer import Writer
from steppe.ledger.signing import COSIGNATURE, Note, PrivateKey
from steppe.ledger.store.books import BookingResult, take
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.transaction import Transaction
from steppe.ledger.tariff import Rate, Tariff
from steppe.measure.provenance import source_commit
from targets import at_least, at_most

SIZES = (1, 32, 512)
"""Requests of a booking."""
RECEIPTS, REPEATS, LEAVES = 12_288, 5, 1_000_000
"""Receipts of a repeat at most, repeats, entries of the log."""
MOST_BOOKINGS, ADMITTED, TENANTS, WITNESSES = 768, 256, 20, 3
"""Bookings of a repeat, requests of a group of admissions, tenants, cosignatures of a head."""
DATABASE = "steppe_bench_ledger_speed"
"""Name of the database that is made on a server, and dropped."""
SITE, RUN, NOW_US = "bench", "bench-1", 490_000 * HOUR_US
LEAST_RECEIPTS_PER_S, MOST_CHECK_S, MOST_PROOF_BYTES = 5_000.0, 20.0, 2_000.0
TARIFF = Tariff("flat-1", "CNY", 0, 8, (Rate(prompt_nano=100, output_nano=400),))
KEY = PrivateKey(f"example.org/{SITE}", bytes(range(32)))


@dataclass
class Books:
    """A ledger without its HTTP server, and the numbers of its run so far.

    Attributes:
        store: The store.
        writer: Its one writer.
        bookings: Bookings that were handed over.
        requests: Requests that were booked.
    """

    store: LedgerStore
    writer: Writer
    bookings: int = 0
    requests: int = 0

    async def admit(self, first: int, count: int) -> None:
        """Set holds aside for requests, in groups."""
        for begin in range(first, first + count, ADMITTED):
            asked = [_asked(n) for n in range(begin, min(begin + ADMITTED, first + count))]

            def change(transaction: Transaction, asked: list[Admission] = asked) -> None:
                tenants = {each.tenant for each in asked}
                transaction.load([each.request for each in asked], tenants, {TARIFF.currency})
                for each in asked:
                    terms = transaction.admit(each, AdmissionRules((TARIFF,)), NOW_US)
                    assert isinstance(terms, AdmissionTerms), terms
                    assert terms.held, terms

            await self.writer.write(change)

    async def book(self, size: int) -> None:
        """Hand over one booking; return when it is on disk."""
        requests = tuple(_booked(self.requests + n) for n in range(size))
        self.bookings, self.requests = self.bookings + 1, self.requests + size
        totals = BookedTotals({"r0": self.requests * 1_000}, idle_uj=0)
        booking = Booking(RUN, self.bookings, NOW_US, "gpu", requests, totals)

        def change(transaction: Transaction) -> BookingResult:
            return take(transaction, booking, SITE, {TARIFF.id: TARIFF})

        taken = await self.writer.write(change)
        assert len(taken.receipts) == size
        assert not taken.unpriced


async def time_books(place: str, folder: Path, size: int, repeats: int) -> dict[str, Any]:
    """Return how fast bookings of a size are written; the first repeat is left out."""
    store = LedgerStore(place)
    log_tariffs(store, [TARIFF], NOW_US)
    store.move([deposited(f"d-{n}", f"t{n}", "CNY", 10**15) for n in range(TENANTS)], NOW_US)
    log = Log(folder / "log", KEY.name, [KEY])
    publisher = Publisher(store, log, lambda _note: None)
    writer = Writer(store, publisher.wake)
    books = Books(store, writer)
    publisher.start()
    rows = [await _repeat(books, size) for _ in range(repeats + 1)][1:]
    await writer.close()
    await publisher.stop()
    assert log.head.size == store.size() == books.requests + 1
    assert not store.audit()
    store.close()
    waits = [wait for row in rows for wait in row["waits_s"]]
    rates = [row["receipts_per_s"] for row in rows]
    return {
        "store": store_name(place),
        "booking_requests": size,
        "receipts_per_s": statistics.median(rates),
        "receipts_per_s_range": [min(rates), max(rates)],
        "cpu_s_per_receipt": statistics.median(row["cpu_s"] for row in rows),
        "booking_p50_s": statistics.median(waits),
        "booking_p99_s": statistics.quantiles(waits, n=100)[98],
        "admissions_per_s": statistics.median(row["admissions_per_s"] for row in rows),
    }


async def _repeat(books: Books, size: int) -> dict[str, Any]:
    bookings = min(MOST_BOOKINGS, max(2, RECEIPTS // size))
    count, began_s = bookings * size, time.monotonic()
    await books.admit(books.requests, count)
    admitted_s = time.monotonic() - began_s
    waits_s, began_s, cpu_s = list[float](), time.monotonic(), time.process_time()
    for _ in range(bookings):
        handed_s = time.monotonic()
        await books.book(size)
        waits_s.append(time.monotonic() - handed_s)
    return {
        "receipts_per_s": count / (time.monotonic() - began_s),
        "cpu_s": (time.process_time() - cpu_s) / count,
        "admissions_per_s": count / admitted_s,
        "waits_s": waits_s,
    }


def time_log(folder: Path, leaves: int, repeats: int) -> dict[str, Any]:
    """Return how long a check of a whole log takes, and how large the proof of an entry is."""
    log = Log(folder / "log", KEY.name, [KEY])
    entries = _entries(leaves)
    while log.head.size < leaves:
        log.add([next(entries) for _ in range(min(16_384, leaves - log.head.size))])
    reader, times_s = LogReader(folder / "log", KEY.name, [KEY.public]), list[float]()
    for _ in range(repeats):
        began_s = time.monotonic()
        check_log(folder / "log", reader.checkpoint(), lambda _done: None)
        times_s.append(time.monotonic() - began_s)
    proof = reader.proof(leaves // 3)
    checked_s = _time_of_proof(reader, leaves // 3)
    witnesses = [
        PrivateKey(f"example.org/witness-{n}", bytes([n]) * 32, COSIGNATURE)
        for n in range(WITNESSES)
    ]
    note = Note.read(proof.checkpoint)
    cosigned = note.with_signatures(cosign(note.text, key, 1_764_000_000) for key in witnesses)
    return {
        "leaves": leaves,
        "check_s": statistics.median(times_s),
        "check_s_range": [min(times_s), max(times_s)],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "proof_bytes": len(proof.text.encode()),
        f"proof_bytes_with_{WITNESSES}_witnesses": len(
            replace(proof, checkpoint=cosigned.whole).text.encode()
        ),
        "proof_check_s": checked_s,
    }


def _time_of_proof(reader: LogReader, index: int) -> float:
    entry, proof, times_s = reader.entry(index), reader.proof(index), list[float]()
    for _ in range(200):
        began_s = time.perf_counter()
        proof.check(entry, KEY.name, [KEY.public])
        times_s.append(time.perf_counter() - began_s)
    return statistics.median(times_s)


def _asked(number: int) -> Admission:
    return Admission(_id(number), f"t{number % TENANTS}", "m", "standard", 1_000, 100)


def _booked(number: int) -> BookedRequest:
    return BookedRequest(
        id=_id(number),
        request=f"req-{number}",
        tenant=f"t{number % TENANTS}",
        model="m",
        priority="standard",
        prompt_tokens=1_000,
        cached_tokens=0,
        output_tokens=50,
        energy_uj=1_000,
        energy_source="emulated",
        started_us=NOW_US - 2_000_000,
        ended_us=NOW_US - 1_000_000,
        finish="stop",
        terms=TARIFF.name_of(0),
    )


def _id(number: int) -> str:
    return f"{number:032x}"


def _entries(count: int) -> Iterator[bytes]:
    """Yield receipts that differ by their id and number."""
    receipt = Receipt(
        id="i" * 32,
        request="req-1",
        seq=123_456_789,
        site=SITE,
        tenant="t1",
        model="m",
        priority="standard",
        prompt_tokens=1_000,
        cached_tokens=0,
        output_tokens=50,
        energy_uj=1_000,
        energy_source="emulated",
        boundary="gpu",
        hour=490_000,
        started_us=NOW_US,
        ended_us=NOW_US,
        finish="stop",
        tariff=TARIFF.name_of(0),
        amount_nano=120_000,
        currency="CNY",
    ).entry
    for number in range(count):
        changed = receipt.replace(b"i" * 32, _id(number).encode())
        yield changed.replace(b"123456789", str(number).encode())


@contextmanager
def empty_database(url: str) -> Iterator[str]:
    """Make a database on a server, yield its URL, and drop it."""
    server = sql.create_engine(url, isolation_level="AUTOCOMMIT")
    own = server.url.set(database=DATABASE)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {DATABASE}")
        connection.exec_driver_sql(f"CREATE DATABASE {DATABASE}")
        yield own.render_as_string(hide_password=False)
        connection.exec_driver_sql(f"DROP DATABASE {DATABASE}")
    server.dispose()


def store_name(place: str) -> str:
    """Return the kind of a store."""
    return place.partition("+")[0] if "://" in place else "sqlite"


def run_apart(arguments: argparse.Namespace, part: str, place: str = "") -> dict[str, Any]:
    """Run a part in a process of its own, on one core."""
    with tempfile.TemporaryDirectory(prefix="steppe-ledger-speed-", dir=arguments.folder) as folder:
        command = [sys.executable, __file__, "--part", part, "--folder", folder]
        if place:
            command += ["--store", place]
        more = ["--repeats", str(arguments.repeats), "--leaves", str(arguments.leaves)]
        done = subprocess.run([*command, *more], check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one part in this process, which stays on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    folder = arguments.folder
    if arguments.part == "log":
        return time_log(folder, arguments.leaves, arguments.repeats)
    size, repeats = int(arguments.part), arguments.repeats
    if not arguments.store:
        return asyncio.run(time_books(str(folder / "ledger.db"), folder, size, repeats))
    with empty_database(arguments.store[0]) as place:
        return asyncio.run(time_books(place, folder, size, repeats))


def targets(books: Sequence[dict[str, Any]], log: dict[str, Any]) -> list[dict[str, Any]]:
    """Return whether the ledger is fast enough, with SQLite."""
    rates = [row["receipts_per_s"] for row in books if row["store"] == "sqlite"]
    proof = log[f"proof_bytes_with_{WITNESSES}_witnesses"]
    return [
        at_least("receipts on one core, FULL sync", max(rates), "1/s", LEAST_RECEIPTS_PER_S),
        at_most(f"check of {log['leaves']:,} leaves", log["check_s"], "s", MOST_CHECK_S),
        at_most(f"proof with {WITNESSES} witnesses", proof, "bytes", MOST_PROOF_BYTES),
    ]


def show(books: Sequence[dict[str, Any]], log: dict[str, Any]) -> None:
    """Print tables for people."""
    columns = ("store", "requests a booking", "receipts/s", "CPU a receipt", "on disk p50, p99")
    table = Table(*columns, "admissions/s")
    for row in books:
        table.add_row(
            row["store"],
            str(row["booking_requests"]),
            f"{row['receipts_per_s']:,.0f}",
            f"{row['cpu_s_per_receipt'] * 1e6:.0f} us",
            f"{row['booking_p50_s'] * 1e3:.1f}, {row['booking_p99_s'] * 1e3:.1f} ms",
            f"{row['admissions_per_s']:,.0f}",
        )
    console = Console(stderr=True)
    console.print(table)
    console.print(f"{log['leaves']:,} leaves checked in {log['check_s']:.1f} s", highlight=False)


def main() -> None:
    """Run all parts and print the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="append", help="another store: a URL of SQLAlchemy")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--leaves", type=int, default=LEAVES, help="entries of the log")
    parser.add_argument("--folder", type=Path, help="where the files go; needs 1 GB")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is not None:
        print(json.dumps(run_part(arguments)))
        return
    books = [run_apart(arguments, str(size)) for size in SIZES]
    for place in arguments.store or ():
        books += [run_apart(arguments, str(size), place) for size in SIZES]
    log = run_apart(arguments, "log")
    show(books, log)
    versions = {"sqlalchemy": version("sqlalchemy"), "sqlite": sqlite3.sqlite_version}
    document = {
        "bench": "ledger_speed",
        "commit": source_commit(),
        "hardware": f"one of {os.cpu_count()} cores, {platform.machine()}",
        "arguments": {"repeats": arguments.repeats, "leaves": arguments.leaves},
        "versions": versions,
        "results": {"books": books, "log": log},
        "targets": targets(books, log),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
