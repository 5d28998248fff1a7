"""Two processes and one account: they admit as many requests as are paid for, never one more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.fixtures.postgresql import postgresql

from steppe.cli import main
from steppe.ledger.store.ledger_store import LedgerStore

PROGRAM = """
import sys
from steppe.ledger.admission import Admission, AdmissionRules, AdmissionTerms
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.tariff import Rate, Tariff

place, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
tokens = Tariff("t", "tokens:m", 0, 0, (Rate(output_nano=10**9),))
money = Tariff("c", "CNY", 0, 0, (Rate(output_nano=10**9),))
rules, store = AdmissionRules((money, tokens), needs_account=True), LedgerStore(place)
print("ready", flush=True)
sys.stdin.readline()
served = 0
for group in range(0, count, 3):
    ids = [f"{name}-{number}" for number in range(group, group + 3)]
    asked = [Admission(each, "lab", "m", "standard", 0, 2) for each in ids]
    found = [type(each) is AdmissionTerms for each in store.admit(asked, rules, 1)]
    served += sum(found)
    with store.transaction() as books:
        for each, is_served in zip(asked, found):
            if is_served:
                books.end_request(each.request, 2 * 10**9, [], 2)
print(served)
"""
BOUGHT, PAID = 12, 9
"""Requests that the tokens pay for, and those that the money does."""


def accounts(place: str, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["accounts", *arguments, "--store", place])
    assert result.exit_code == 0, result.output
    return result.stdout


def check(place: str) -> None:
    accounts(place, "open", "lab", "CNY")
    accounts(place, "deposit", "lab", str(2 * PAID + 1), "CNY")
    accounts(place, "grant", "lab", str(2 * BOUGHT), "tokens:m", "--until", "2099-12-31")
    asked = 4 * (BOUGHT + PAID)
    command = [sys.executable, "-c", PROGRAM, place]
    both = [
        subprocess.Popen(
            [*command, name, str(asked // 2)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    for each in both:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in both:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    served = [int(each.communicate(timeout=60)[0]) for each in both]
    assert sum(served) == BOUGHT + PAID
    assert accounts(place, "balance", "lab").splitlines() == [
        "lab: 1 CNY available, 0 held, credit 0",
        "lab: 0 tokens:m@2099-12-31 available, 0 held, credit 0",
    ]
    assert "each is the sum" in accounts(place, "audit")
    store = LedgerStore(place)
    revenue = {each.unit: each.balance // 10**9 for each in store.balances("revenue")}
    store.close()
    assert revenue == {"CNY": 2 * PAID, "tokens:m@2099-12-31": 2 * BOUGHT}


@pytest.mark.slow
def test_two_processes_on_one_file(tmp_path: Path) -> None:
    check(str(tmp_path / "ledger.db"))


@pytest.mark.slow
def test_two_processes_on_postgresql() -> None:
    with postgresql() as url:
        check(url)
