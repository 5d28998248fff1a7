"""A ledger service whose process is killed: between a commit and its head, and at any time."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.ledger.service.running import NOON_US, ServiceFactory, asked, booked, booking

from steppe.ledger.entries import REVENUE, deposited
from steppe.ledger.log.audit import check_log
from steppe.ledger.log.log import LogReader
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.receipt import Receipt
from steppe.ledger.signing import PublicKey
from steppe.ledger.store.ledger_store import LedgerStore

pytestmark = pytest.mark.slow  # each start imports the service

COST, REQUESTS = 1_000 * 100 + 50 * 400, 7
SERVICE = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.ledger.service.running import Clock, booked, booking
from steppe.config import LedgerSection
from steppe.ledger.log import log
from steppe.ledger.service import publisher
from steppe.ledger.service.service import LedgerService
from steppe.ledger.service.settings import LedgerSettings
from steppe.ledger.store.transaction import Transaction

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

folder, tariff, where = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if where == "before the commit":
    write = Transaction.write
    count = [0]
    def write_and_die(self):
        write(self)
        count[0] += 1
        if count[0] == 4:
            die()
    Transaction.write = write_and_die
elif where == "before the log":
    publisher.Publisher.publish = die
elif where == "before the head":
    log.publish_note = die

async def main():
    values = {"site": "hohhot", "tariffs": [tariff]}
    settings = LedgerSettings(LedgerSection.model_validate(values), folder)
    service = LedgerService(settings, Clock().epoch_ns)
    await service.start()
    print("started", flush=True)
    number = await service.take(booking(10**9))
    while True:
        number += 1
        requests = [booked(f"r{number}-{n}") for n in range(7)]
        taken = await service.take(booking(number, *requests, metered_uj=7_000 * number))
        assert taken == number
        print(number, flush=True)

asyncio.run(main())
"""


async def start(folder: Path, tariff: Path, where: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", SERVICE, str(folder), str(tariff), where),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )


async def last_line(process: asyncio.subprocess.Process, *, least: int = 10**9) -> int:
    """Return the last number that the process has printed, up to its end or so many."""
    assert process.stdout is not None
    last = 0
    async with asyncio.timeout(60):
        while line := await process.stdout.readline():
            if line.strip().isdigit():
                last = int(line)
            if last >= least:
                break
    return last


def check(folder: Path, acknowledged: int) -> int:
    """Check that nothing is lost or doubled; return the number of the last booking."""
    store = LedgerStore(str(folder / "ledger.db"))
    assert store.audit() == []
    receipts = [Receipt.read(entry) for entry in store.of_kind(RECEIPT)]
    bookings, rest = divmod(len(receipts), REQUESTS)
    assert rest == 0
    assert acknowledged <= bookings <= acknowledged + 1
    names = [f"r{number}-{n}" for number in range(1, bookings + 1) for n in range(REQUESTS)]
    assert [each.id for each in receipts] == names
    assert [each.seq for each in receipts] == list(range(len(receipts)))
    store.close()
    return bookings


def check_head(folder: Path) -> int:
    """Check the whole log; return its size."""
    key = PublicKey.read((folder / "log.pub").read_text().strip())
    head = LogReader(folder / "log", "hohhot", [key]).checkpoint()
    check_log(folder / "log", head, lambda _: None)
    store = LedgerStore(str(folder / "ledger.db"))
    assert store.size() == head.head.size
    store.close()
    return head.head.size


@pytest.mark.parametrize("where", ["before the commit", "before the log", "before the head"])
async def test_what_was_acknowledged_is_published_after_a_kill(
    open_service: ServiceFactory, tmp_path: Path, tariff_file: Path, where: str
) -> None:
    folder = tmp_path / "ledger"
    process = await start(folder, tariff_file, where)
    acknowledged = await last_line(process)
    assert await process.wait() == -9
    bookings = check(folder, acknowledged)
    running = await open_service()
    assert await running.service.take(booking(10**9)) == bookings
    more = booking(bookings + 1, booked("last"), metered_uj=REQUESTS * 1_000 * (bookings + 1))
    await running.service.take(more)
    await running.proof_of("/steppe/v1/receipts/last")
    await running.stop()
    assert check_head(folder) == 1 + REQUESTS * bookings + 1


async def test_kills_at_any_time_lose_no_money(
    open_service: ServiceFactory, tmp_path: Path, tariff_file: Path
) -> None:
    folder = tmp_path / "ledger"
    running = await open_service()
    store = running.store
    store.move([deposited("d1", "lab", "CNY", 10**12)], NOON_US)
    store.close()
    names = [f"r{number}-{n}" for number in range(1, 13) for n in range(REQUESTS)]
    await running.admit(*map(asked, names))
    await running.stop()
    bookings = 0
    for least in (2, 5, 11):
        process = await start(folder, tariff_file, "anywhere")
        acknowledged = await last_line(process, least=least)
        process.kill()
        acknowledged = max(acknowledged, await last_line(process))
        await process.wait()
        bookings = check(folder, acknowledged)
    running = await open_service()
    await running.stop()
    assert check_head(folder) == 1 + REQUESTS * bookings
    store = LedgerStore(str(folder / "ledger.db"))
    paid = min(bookings, 12) * REQUESTS * COST
    assert [each.balance for each in store.balances(REVENUE)] == [paid]
    store.close()
