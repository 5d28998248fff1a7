"""Two processes and one offer: at no time do they promise more than it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.fixtures.postgresql import postgresql

from steppe.grid.service.offers.promises import FolderPromises, LedgerPromises, Promises
from steppe.ledger.store.ledger_store import LedgerStore

OFFERED_W, PART_W, TIMES = 1000, 100, 4
PROGRAM = f"""
import sys
from pathlib import Path
from steppe.errors import UsageError
from steppe.grid.offers.commitments import Commitment
from steppe.grid.offers.offer import Call, FlexOffer, offered
from steppe.grid.offers.sources import Source
from steppe.grid.service.offers.promises import FolderPromises, LedgerPromises
from steppe.ledger.store.ledger_store import LedgerStore

kind, place, name = sys.argv[1:]
power = offered([[Source("work", {OFFERED_W}.0, 0.0, 1.0, 0.0)]] * 9, Call(0.0, 60.0))
offer = FlexOffer("offer", 0, 1000, power, power)
store = None if kind == "file" else LedgerStore(place)
promises = FolderPromises(Path(place)) if store is None else LedgerPromises(store, "site")
print("ready", flush=True)
sys.stdin.readline()
sold = 0
for number in range({2 * OFFERED_W // PART_W}):
    for time in range({TIMES}):
        begin_s = 200 * time + (50 if name == "b" else 0)
        new = Commitment(f"{{name}}-{{number}}-{{time}}", name, begin_s, begin_s + 100, {PART_W})
        try:
            sold += promises.commit(new, offer, 1)
        except UsageError as error:
            assert "W free" in str(error), error
print(sold)
"""


def check(kind: str, place: str) -> int:
    command = [sys.executable, "-c", PROGRAM, kind, place]
    both = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    for each in both:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in both:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    return sum(int(each.communicate(timeout=60)[0]) for each in both)


def assert_sold_once(promises: Promises, sold: int) -> None:
    found = promises.of(0)
    assert len(found) == sold
    for at_s in range(0, 1000, 10):
        assert sum(one.down_w for one in found if one.takes_at(at_s)) <= OFFERED_W
    # The parts overlap by half, so each time has room for ten of them.
    assert sold == TIMES * OFFERED_W // PART_W


@pytest.mark.slow
def test_two_processes_on_a_file(tmp_path: Path) -> None:
    assert_sold_once(FolderPromises(tmp_path), check("file", str(tmp_path)))


@pytest.mark.slow
def test_two_processes_on_the_ledger_in_sqlite(tmp_path: Path) -> None:
    place = str(tmp_path / "ledger.db")
    store = LedgerStore(place)
    assert_sold_once(LedgerPromises(store, "site"), check("ledger", place))
    store.close()


@pytest.mark.slow
def test_two_processes_on_the_ledger_in_postgresql() -> None:
    with postgresql() as url:
        store = LedgerStore(url)
        assert_sold_once(LedgerPromises(store, "site"), check("ledger", url))
        store.close()
