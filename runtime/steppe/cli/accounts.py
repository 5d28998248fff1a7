"""`steppe accounts`: open accounts of tenants, and move money and tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import click

from steppe.errors import SteppeError
from steppe.ledger.units import number_text
from steppe.options import GivenPath, GivenText, json_option
from steppe.run import accounts
from steppe.run.accounts import AccountOrder, PastMovement, TenantFunds, opened

_Command = TypeVar("_Command", bound=Callable[..., Any])
_TEXT, _US_PER_S = GivenText(), 1_000_000


class _Day(click.ParamType[date]):
    """A day, such as 2026-12-31."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the day; fail if it is none."""
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"asked for a day such as 2026-12-31, found {value!r}", param, ctx)


def _place_options(command: _Command) -> _Command:
    """Add the options that name a store."""
    ledger = click.option(
        "--ledger",
        type=GivenPath(path_type=Path),
        help="Folder of the ledger, or of a record with one.",
    )
    store = click.option("--store", type=_TEXT, help="Its store: an SQLite file, or a URL.")
    return ledger(store(json_option(command)))


_id_option = click.option(
    "--id",
    "id_",
    type=_TEXT,
    help="Id of this payment: the same again changes nothing. A new one without it.",
)


def _payment_options(command: _Command) -> _Command:
    """Add the arguments and options of money between the operator and a tenant."""
    tenant, amount, unit = (
        click.argument(name, type=_TEXT) for name in ("tenant", "amount", "unit")
    )
    return tenant(amount(unit(_id_option(_place_options(command)))))


_until_option = click.option(
    "--until", type=_Day(), help="Last day on which the tokens are valid (UTC)."
)


@click.group("accounts", epilog="Example: steppe accounts balance --ledger runs/one")
def accounts_group() -> None:
    """Open accounts of tenants, and move money and tokens.

    A UNIT is a currency (CNY), tokens of a model class (tokens:large), those of a series
    (tokens:large@2026-12-31), or energy (J). A command beside a run is safe.
    """


@accounts_group.command("open", epilog="Example: steppe accounts open lab CNY --ledger ledger")
@click.argument("tenant", type=_TEXT)
@click.argument("unit", type=_TEXT)
@click.option(
    "--credit", type=_TEXT, default="0", help="How far below 0 it may fall; 0 by default."
)
@_place_options
def open_command(
    tenant: str, unit: str, *, credit: str, ledger: Path | None, store: str | None, as_json: bool
) -> None:
    """Give TENANT an account in UNIT, or change its credit.

    From then on its requests are held against it. The store is made if it is missing.
    """
    with opened(ledger, store, is_new=True) as books:
        accounts.open_account(books, tenant, unit, credit)
        _show_funds(accounts.funds(books, tenant), as_json)


@accounts_group.command(
    "deposit", epilog="Example: steppe accounts deposit lab 100 CNY --ledger ledger --id inv-7"
)
@_payment_options
def deposit_command(
    tenant: str,
    amount: str,
    unit: str,
    *,
    id_: str | None,
    ledger: Path | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Add AMOUNT that TENANT has paid."""
    order, paid = _order(id_), accounts.amount(amount, unit)
    with opened(ledger, store) as books:
        is_new = accounts.deposit(books, order, tenant, paid)
        _show_done(order, is_new, accounts.funds(books, tenant), as_json)


@accounts_group.command(
    "withdraw", epilog="Example: steppe accounts withdraw lab 20 CNY --ledger ledger --id back-7"
)
@_payment_options
def withdraw_command(
    tenant: str,
    amount: str,
    unit: str,
    *,
    id_: str | None,
    ledger: Path | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Take AMOUNT that was paid back to TENANT."""
    order, paid = _order(id_), accounts.amount(amount, unit)
    with opened(ledger, store) as books:
        is_new = accounts.withdraw(books, order, tenant, paid)
        _show_done(order, is_new, accounts.funds(books, tenant), as_json)


@accounts_group.command(
    "grant", epilog="Example: steppe accounts grant lab 1e6 tokens:large --ledger ledger"
)
@click.argument("tenant", type=_TEXT)
@click.argument("amount", type=_TEXT)
@click.argument("unit", type=_TEXT)
@_until_option
@_id_option
@_place_options
def grant_command(
    tenant: str,
    amount: str,
    unit: str,
    *,
    until: date | None,
    id_: str | None,
    ledger: Path | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Give TENANT AMOUNT for nothing."""
    order, given = _order(id_), accounts.amount(amount, unit, until)
    with opened(ledger, store) as books:
        is_new = accounts.grant(books, order, tenant, given)
        _show_done(order, is_new, accounts.funds(books, tenant), as_json)


@accounts_group.command(
    "buy",
    epilog="Example: steppe accounts buy lab 1e6 tokens:large --price 9.9 CNY --ledger ledger",
)
@click.argument("tenant", type=_TEXT)
@click.argument("tokens", type=_TEXT)
@click.argument("unit", type=_TEXT)
@click.option("--price", type=(str, str), required=True, help="Amount and currency of the price.")
@_until_option
@_id_option
@_place_options
def buy_command(
    tenant: str,
    tokens: str,
    unit: str,
    *,
    price: tuple[str, str],
    until: date | None,
    id_: str | None,
    ledger: Path | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Sell TENANT a package of TOKENS; its money pays for it."""
    order, package = _order(id_), accounts.amount(tokens, unit, until)
    with opened(ledger, store) as books:
        is_new = accounts.buy(books, order, tenant, package, accounts.amount(*price))
        _show_done(order, is_new, accounts.funds(books, tenant), as_json)


@accounts_group.command(
    "transfer",
    epilog="Example: steppe accounts transfer lab school 4e5 tokens:large --ledger ledger",
)
@click.argument("giver", type=_TEXT)
@click.argument("taker", type=_TEXT)
@click.argument("amount", type=_TEXT)
@click.argument("unit", type=_TEXT)
@_id_option
@_place_options
def transfer_command(
    giver: str,
    taker: str,
    amount: str,
    unit: str,
    *,
    id_: str | None,
    ledger: Path | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Move AMOUNT from GIVER to TAKER; both have an account."""
    order, moved = _order(id_), accounts.amount(amount, unit)
    with opened(ledger, store) as books:
        is_new = accounts.transfer(books, order, giver, taker, moved)
        both = [*accounts.funds(books, giver), *accounts.funds(books, taker)]
        _show_done(order, is_new, both, as_json)


@accounts_group.command("balance", epilog="Example: steppe accounts balance lab --ledger runs/one")
@click.argument("tenant", type=_TEXT, required=False)
@_place_options
def balance_command(
    tenant: str | None, *, ledger: Path | None, store: str | None, as_json: bool
) -> None:
    """Show what TENANT has, or every tenant."""
    with opened(ledger, store) as books:
        _show_funds(accounts.funds(books, tenant), as_json)


@accounts_group.command(
    "history", epilog="Example: steppe accounts history lab --ledger runs/one --last 50"
)
@click.argument("tenant", type=_TEXT)
@click.option(
    "--last", type=click.IntRange(min=1), default=20, show_default=True, help="Most movements."
)
@_place_options
def history_command(
    tenant: str, *, last: int, ledger: Path | None, store: str | None, as_json: bool
) -> None:
    """Show the last movements of what TENANT may use, newest first."""
    with opened(ledger, store) as books:
        found = accounts.history(books, tenant, last)
    if as_json:
        click.echo(json.dumps([_past_row(each) for each in found]))
        return
    for each in found:
        row = _past_row(each)
        click.echo(f"{row['time']}  {row['kind']:<10}  {row['amount']} {row['unit']}  {row['id']}")


@accounts_group.command("audit", epilog="Example: steppe accounts audit --ledger runs/one")
@_place_options
def audit_command(*, ledger: Path | None, store: str | None, as_json: bool) -> None:
    """Check that every balance is the sum of its movements. Exit code 1: one is not."""
    with opened(ledger, store) as books:
        faults, count = books.audit(), len(books.balances())
    if as_json:
        click.echo(json.dumps({"balances": count, "faults": faults}))
    if faults:
        error = SteppeError(f"asked for {count} right balances, found {len(faults)} faults")
        for fault in faults:
            error.add_note(fault)
        raise error
    if not as_json:
        click.echo(f"{count} balances: each is the sum of its movements and holds.")


def _show_done(order: AccountOrder, is_new: bool, funds: list[TenantFunds], as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps({"id": order.id, "new": is_new, "accounts": [_row(x) for x in funds]})
        )
        return
    click.echo(f"{order.id}: {'done' if is_new else 'was done before'}")
    _show_funds(funds, as_json)


def _show_funds(funds: list[TenantFunds], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_row(each) for each in funds]))
        return
    for each in funds:
        row = _row(each)
        click.echo(
            f"{row['tenant']}: {row['available']} {row['unit']} available, {row['held']} held, "
            f"credit {row['credit']}"
        )


def _row(funds: TenantFunds) -> dict[str, str]:
    return {
        "tenant": funds.tenant,
        "unit": funds.unit,
        "available": number_text(funds.available, funds.unit),
        "held": number_text(funds.held, funds.unit),
        "credit": number_text(funds.credit, funds.unit),
    }


def _past_row(past: PastMovement) -> dict[str, str]:
    moved, time_s = past.movement, past.time_us / _US_PER_S
    return {
        "time": datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds"),
        "kind": moved.kind.value,
        "amount": number_text(past.change, moved.unit),
        "unit": moved.unit,
        "id": moved.cause,
    }


def _order(id_: str | None) -> AccountOrder:
    return AccountOrder(id_ or uuid4().hex, time.time_ns() // 1_000)
