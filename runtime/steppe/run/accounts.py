"""Accounts of tenants on a store, for the command line."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from steppe.config.tenants import tenant_name
from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.ledger.entries import (
    Movement,
    available,
    deposited,
    granted,
    held,
    withdrawn,
)
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.packages import check_valid
from steppe.ledger.trades import Package, Transfer
from steppe.ledger.units import (
    amount_of,
    checked_unit,
    is_energy_of_hours,
    is_tokens,
    quote_of,
    series_end_us,
    series_of,
)
from steppe.run.ledger_folder import IN_RECORD, STORE


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of what.

    Attributes:
        number: How much, in the smallest amount of the unit.
        unit: The unit.
    """

    number: int
    unit: str


@dataclass(frozen=True, slots=True)
class AccountOrder:
    """What an operator has asked for.

    Attributes:
        id: Its id: the same one again changes nothing.
        time_us: When, us since the Unix epoch.
    """

    id: str
    time_us: int


@dataclass(frozen=True, slots=True)
class TenantFunds:
    """What a tenant has of a unit, in the smallest amount of that unit.

    Attributes:
        tenant: The tenant.
        unit: The unit.
        available: What it may use; below 0 if it owes.
        held: What is set aside for its open requests.
        credit: How far below 0 it may fall.
    """

    tenant: str
    unit: str
    available: int
    held: int
    credit: int


@dataclass(frozen=True, slots=True)
class PastMovement:
    """A movement of a tenant's account.

    Attributes:
        time_us: When, us since the Unix epoch.
        change: By how much the account changed.
        movement: The movement.
    """

    time_us: int
    change: int
    movement: Movement


@contextmanager
def opened(
    ledger: Path | None, store: str | None, *, is_new: bool = False
) -> Generator[LedgerStore]:
    """Open the store of a ledger.

    Args:
        ledger: Folder of the ledger, or of a record with one; None if `store` names it.
        store: An SQLite file, or a URL; None if `ledger` names the folder.
        is_new: Whether the store is made if it is missing.

    Raises:
        UsageError: Not exactly one of them is given, or there is no store.
    """
    if ledger is not None and store is None:
        folder = ledger / IN_RECORD if (ledger / IN_RECORD / STORE).exists() else ledger
        place = str(folder / STORE)
    elif store is not None and ledger is None:
        place = store
    else:
        raise UsageError("asked for one of --ledger and --store")
    if "://" not in place and not Path(place).exists():
        if not is_new:
            raise UsageError(f"{place}: asked for the store of a ledger, found none")
        with disk_errors(Path(place)):
            Path(place).parent.mkdir(parents=True, exist_ok=True)
    books = LedgerStore(place)
    try:
        yield books
    finally:
        books.close()


def open_account(store: LedgerStore, tenant: str, unit: str, credit: str) -> None:
    """Give a tenant an account, or change its credit.

    Raises:
        TooLowError: It owes more than that already.
        UsageError: The name, the unit or the credit is none.
    """
    try:
        name = tenant_name(tenant)
    except ValueError as error:
        raise UsageError(f"TENANT: {error}, found {tenant!r:.60}") from error
    unit = checked_unit(unit)
    store.open_account(name, unit, 0 if credit == "0" else amount_of(credit, unit))


def deposit(store: LedgerStore, order: AccountOrder, tenant: str, paid: Amount) -> bool:
    """Add what a tenant has paid; return whether it is new.

    Raises:
        ConflictError: Another payment has this id.
        UsageError: The tenant has no account.
    """
    _check_known(store, tenant)
    moved = deposited(order.id, tenant, paid.unit, paid.number)
    return store.move([moved], order.time_us)


def withdraw(store: LedgerStore, order: AccountOrder, tenant: str, paid: Amount) -> bool:
    """Take what was paid back to a tenant; return whether it is new.

    Raises:
        ConflictError: Another payment has this id.
        TooLowError: The tenant has not so much.
        UsageError: The tenant has no account.
    """
    _check_known(store, tenant)
    moved = withdrawn(order.id, tenant, paid.unit, paid.number)
    return store.move([moved], order.time_us)


def grant(store: LedgerStore, order: AccountOrder, tenant: str, given: Amount) -> bool:
    """Give a tenant something for nothing; return whether it is new.

    Raises:
        ConflictError: Another grant has this id.
        UsageError: The tenant has no account, or the tokens have run out.
    """
    _check_known(store, tenant)
    check_valid(given.unit, order.time_us)
    return store.move([granted(order.id, tenant, given.unit, given.number)], order.time_us)


def buy(
    store: LedgerStore, order: AccountOrder, tenant: str, tokens: Amount, price: Amount
) -> bool:
    """Sell a tenant a package of tokens; return whether it is new.

    Raises:
        ConflictError: Another purchase has this id.
        TooLowError: The tenant has not so much money.
        UsageError: The tenant has no account, or the tokens have run out.
    """
    _check_known(store, tenant)
    package = Package(order.id, tenant, tokens.unit, tokens.number, price.unit, price.number)
    return store.trade(package, order.time_us)


def transfer(
    store: LedgerStore, order: AccountOrder, giver: str, taker: str, moved: Amount
) -> bool:
    """Move what one tenant gives to another; return whether it is new.

    Raises:
        ConflictError: Another transfer has this id.
        TooLowError: The giver has not so much.
        UsageError: One of them has no account, or the tokens have run out.
    """
    for tenant in (giver, taker):
        _check_known(store, tenant)
    made = Transfer(order.id, giver, taker, moved.unit, moved.number)
    return store.trade(made, order.time_us)


def amount(text: str, unit: str, until: date | None = None) -> Amount:
    """Return the amount that the arguments of a command name.

    Args:
        text: The number.
        unit: The unit.
        until: Last day on which tokens are valid; None if the unit says all.

    Raises:
        UsageError: One of them is none, or a day is given for what has none.
    """
    if until is not None:
        if not is_tokens(unit) or series_end_us(unit) is not None:
            raise UsageError(f"--until: asked for tokens:NAME with it, found {unit}")
        unit = series_of(unit, until)
    return Amount(amount_of(text, checked_unit(unit)), unit)


def funds(store: LedgerStore, tenant: str | None) -> list[TenantFunds]:
    """Return what a tenant can pay with, or all of them; without quotes that are used up or over.

    Raises:
        UsageError: It has no account.
    """
    if tenant is not None:
        _check_known(store, tenant)
    found = {(each.account, each.unit): each for each in store.balances()}
    rows = []
    for (account, unit), own in sorted(found.items()):
        name = account.removeprefix("tenant/").removesuffix("/available")
        if account != available(name) or tenant not in (None, name) or is_energy_of_hours(unit):
            continue
        aside = found.get((held(name), unit))
        row = TenantFunds(name, unit, own.balance, aside.balance if aside else 0, -(own.floor or 0))
        if quote_of(unit) is None or row.available or row.held:
            rows.append(row)
    return rows


def history(store: LedgerStore, tenant: str, most: int) -> list[PastMovement]:
    """Return the last movements of a tenant's account, newest first.

    Raises:
        UsageError: It has no account.
    """
    _check_known(store, tenant)
    own = available(tenant)
    return [
        PastMovement(time_us, each.amount if each.given_to == own else -each.amount, each)
        for time_us, each in store.history(own, most)
    ]


def _check_known(store: LedgerStore, tenant: str) -> None:
    if not store.balances(available(tenant)):
        asked = f"asked for an account of {tenant}, found none"
        raise UsageError(f"{asked}; `steppe accounts open` makes one")
