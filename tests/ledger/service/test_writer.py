"""The writer: a group is one transaction, and what fails beside others harms none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from steppe.errors import UsageError
from steppe.ledger.entries import available, deposited
from steppe.ledger.service.writer import Writer
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.transaction import Transaction


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    store = LedgerStore(str(tmp_path / "ledger.db"))
    opened = Writer(store, lambda: None)
    yield opened
    await opened.close()
    store.close()


def deposit(name: str, amount: int) -> Callable[[Transaction], int]:
    def change(books: Transaction) -> int:
        books.move([deposited(name, "lab", "CNY", amount)], 1)
        return amount

    return change


def fail(_books: Transaction) -> int:
    raise UsageError("asked for something else")


def break_down(_books: Transaction) -> int:
    raise KeyError("a fault of the program")


async def test_what_fails_beside_others_harms_none_of_them(writer: Writer) -> None:
    changes = [deposit("d1", 5), fail, deposit("d2", 7), break_down]
    found = await asyncio.gather(*map(writer.write, changes), return_exceptions=True)
    assert [found[0], found[2]] == [5, 7]
    assert [type(found[1]), type(found[3])] == [UsageError, KeyError]

    def balance(books: Transaction) -> int:
        return books.balances.at(available("lab"), "CNY").balance

    assert await writer.write(balance) == 12


async def test_short_changes_do_not_wait_for_all_long_ones(writer: Writer) -> None:
    order: list[str] = []

    def note(name: str) -> Callable[[Transaction], None]:
        return lambda _: order.append(name)

    long = [writer.write(note(f"long {n}"), is_long=True) for n in range(3)]
    short = [writer.write(note(f"short {n}")) for n in range(2)]
    await asyncio.gather(*long, *short)
    assert order == ["short 0", "short 1", "long 0", "long 1", "long 2"]


async def test_a_caller_that_leaves_harms_no_other(writer: Writer) -> None:
    left = asyncio.create_task(writer.write(deposit("d1", 5)))
    stays = asyncio.create_task(writer.write(deposit("d2", 7)))
    await asyncio.sleep(0)
    left.cancel()
    assert await stays == 7


async def test_a_closed_writer_takes_nothing(writer: Writer) -> None:
    await writer.close()
    with pytest.raises(UsageError, match="found the service stopping"):
        await writer.write(deposit("d1", 5))
