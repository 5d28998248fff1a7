"""`steppe accounts`: money and tokens of tenants, from the command line."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from steppe.cli import main
from steppe.ledger.entries import available, package_expired, quote_issued
from steppe.ledger.store.ledger_store import LedgerStore

SERIES = "tokens:large@2099-12-31"


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "books" / "ledger.db")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["accounts", *arguments])


def document(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_money_buys_tokens_that_change_hands(place: str) -> None:
    for tenant in ("lab", "school"):
        assert run("open", tenant, "CNY", "--store", place).exit_code == 0
    run("deposit", "lab", "10.5", "CNY", "--store", place)
    buy = ("buy", "lab", "1e6", "tokens:large", "--price", "9.9", "CNY", "--until", "2099-12-31")
    found = document(*buy, "--id", "p1", "--store", place)
    assert (found["id"], found["new"]) == ("p1", True)
    assert not document(*buy, "--id", "p1", "--store", place)["new"]
    run("transfer", "lab", "school", "400000", SERIES, "--store", place)
    shown = run("balance", "--store", place).stdout
    assert shown == (
        "lab: 0.6 CNY available, 0 held, credit 0\n"
        f"lab: 600000 {SERIES} available, 0 held, credit 0\n"
        "school: 0 CNY available, 0 held, credit 0\n"
        f"school: 400000 {SERIES} available, 0 held, credit 0\n"
    )
    history = document("history", "lab", "--store", place)
    assert [(each["kind"], each["amount"]) for each in history] == [
        ("transfer", "-400000"),
        ("package", "1000000"),
        ("purchase", "-9.9"),
        ("deposit", "10.5"),
    ]
    assert "purchase    -9.9 CNY  p1" in run("history", "lab", "--store", place).stdout
    assert run("audit", "--store", place).stdout.endswith(
        "balances: each is the sum of its movements and holds.\n"
    )


def test_credit_grants_and_money_back(place: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "books")
    run("open", "lab", "CNY", "--credit", "50", "--ledger", folder)
    assert document("balance", "lab", "--store", place)[0]["credit"] == "50"
    run("grant", "lab", "3", "CNY", "--ledger", folder)
    assert run("withdraw", "lab", "53", "CNY", "--ledger", folder).exit_code == 0
    refused = run("withdraw", "lab", "0.01", "CNY", "--ledger", folder)
    assert refused.exit_code == 1
    assert "asked for 0.01 CNY, found 0 free" in refused.output
    lower = run("open", "lab", "CNY", "--credit", "10", "--ledger", folder)
    assert "found -40 free" in lower.output
    found = document("balance", "lab", "--ledger", folder)
    assert found == [
        {"tenant": "lab", "unit": "CNY", "available": "-50", "held": "0", "credit": "50"}
    ]


def test_a_quote_is_shown_while_it_has_tokens(place: str) -> None:
    run("open", "lab", "CNY", "--store", place)
    store = LedgerStore(place)
    store.move([quote_issued("q-1", "lab", 70)], 1)
    assert "lab: 70 quote:q-1 available" in run("balance", "--store", place).stdout
    store.move([package_expired("e", available("lab"), "quote:q-1", 70)], 2)
    store.close()
    assert "quote:q-1" not in run("balance", "--store", place).stdout


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (
            "deposit school 5 CNY",
            "asked for an account of school, found none; `steppe accounts open`",
        ),
        ("deposit lab five CNY", "asked for a number above 0 of CNY, 9 decimals, found 'five'"),
        ("deposit lab 5 yuan", "unit: asked for three capital letters"),
        ("open lab/x CNY", "TENANT: asked for at most 128 of"),
        ("grant lab 5 tokens:a --until 2020-01-31", "tokens:a@2020-01-31: asked for tokens that"),
        ("grant lab 5 CNY --until 2099-01-31", "--until: asked for tokens:NAME with it, found CNY"),
        ("grant lab 5 tokens:a --until soon", "asked for a day such as 2026-12-31, found 'soon'"),
        ("buy lab 5 tokens:a --price 5 tokens:b", "asked for a price in money, found tokens:b"),
        ("transfer lab lab 5 CNY", "asked to move to the same account"),
        ("history school", "asked for an account of school"),
        ("balance --ledger .", "asked for one of --ledger and --store"),
    ],
)
def test_what_cannot_be_done_is_one_line(place: str, arguments: str, found: str) -> None:
    run("open", "lab", "CNY", "--store", place)
    result = run(*arguments.split(), "--store", place)
    assert result.exit_code == 2
    assert found in result.output
    assert len(result.stderr.splitlines()) == 1


def test_a_store_that_is_missing_is_named(tmp_path: Path) -> None:
    result = run("balance", "--ledger", str(tmp_path))
    assert result.exit_code == 2
    assert f"{tmp_path}/ledger.db: asked for the store of a ledger, found none" in result.output
    assert not list(tmp_path.iterdir())


def test_the_audit_names_a_balance_that_was_changed(place: str) -> None:
    run("open", "lab", "CNY", "--store", place)
    run("deposit", "lab", "5", "CNY", "--store", place)
    with sqlite3.connect(place) as connection:
        connection.execute("UPDATE steppe_ledger_balances SET balance = 7 WHERE account = 'bank'")
    connection.close()
    result = run("audit", "--store", place)
    assert result.exit_code == 1
    assert "bank: its balance is not the sum of its movements" in result.output
