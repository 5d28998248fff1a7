"""`steppe ledger close` and `correct`: what is due is closed, and what was wrong is given back."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.fixtures.ledger import FIRST_HOUR, KEY, SITE, FilledLedger, fill_ledger

from steppe.cli import main
from steppe.ledger.entries import available
from steppe.ledger.periods.closing import closes_us
from steppe.ledger.signing import PrivateKey
from steppe.ledger.statements.month import EPOCH, hour_text
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.services.folder_lock import FolderLock


def run(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["ledger", command, *map(str, arguments)], prog_name="steppe")


def balance(ledger: FilledLedger, tenant: str) -> int:
    store = LedgerStore(str(ledger.folder / "ledger.db"))
    (found,) = [one for one in store.balances(available(tenant)) if one.unit == "CNY"]
    store.close()
    return found.balance


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FilledLedger:
    """A ledger of which the second hour is due. Time stands still: no further one becomes due."""
    now_us = closes_us(FIRST_HOUR + 1)
    monkeypatch.setattr("steppe.cli.ledger_correct._now_us", lambda: now_us)
    return fill_ledger(tmp_path / "ledger", hours=1, each=2, still_open=2)


def test_a_correction_gives_back_what_was_too_much(ledger: FilledLedger) -> None:
    one, before = ledger.receipts[1], balance(ledger, "uni")
    found = run("correct", ledger.folder, one.request, "--output-tokens", 1)
    assert found.exit_code == 0, found.output
    assert f"receipt {one.id}.c1 corrects {one.id}: -0.000012000 CNY" in found.stdout
    assert "given back to uni: 0.000012 CNY" in found.stdout
    assert balance(ledger, "uni") == before + 30 * 400
    assert run("audit", ledger.folder).exit_code == 0
    again = run("correct", ledger.folder, one.id, "--output-tokens", 1)
    assert (again.exit_code, balance(ledger, "uni")) == (2, before + 30 * 400)
    assert "found nothing to correct" in again.stderr


def test_the_rest_can_be_given_back_later(ledger: FilledLedger) -> None:
    one, before = ledger.receipts[1], balance(ledger, "uni")
    run("correct", ledger.folder, one.id, "--output-tokens", 1)
    found = run("correct", ledger.folder, one.id, "--amount-nano", 0, "--json")
    document = json.loads(found.stdout)
    assert document["receipt"]["id"] == f"{one.id}.c2"
    assert document["published"] is True
    assert balance(ledger, "uni") == before + one.amount_nano
    audited = run("audit", ledger.folder)
    assert audited.exit_code == 0, audited.output


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("nothing", ("--output-tokens", "1"), "found none of this id or request"),
        ("00000001", (), "found nothing to correct"),
        ("00000001", ("--output-tokens", "999"), "a correction gives money back"),
        ("00000001", ("--output-tokens", "-1"), "-1 is not in the range x>=0"),
        ("00000000.c1", ("--output-tokens", "0"), "found the correction of 00000000"),
    ],
)
def test_what_is_no_correction_is_one_line_and_exit_code_2(
    ledger: FilledLedger, name: str, options: tuple[str, ...], said: str
) -> None:
    found = run("correct", ledger.folder, name, *options)
    assert (found.exit_code, found.stdout) == (2, "")
    assert said in found.stderr


def test_the_hours_that_are_due_are_closed_and_published(ledger: FilledLedger) -> None:
    due = hour_text(ledger.receipts[-1].hour)
    found = run("close", ledger.folder)
    assert found.exit_code == 0, found.output
    first = found.stdout.splitlines()[0]
    assert first.startswith(f"{due} hohhot, boundary gpu: 2 receipts")
    assert "entries in the signed log" in found.stdout.splitlines()[-1]
    audited = json.loads(run("audit", ledger.folder, "--json").stdout)
    assert audited["faults"] == []
    assert audited["energy"][0]["hours"]["open"] == 0
    assert audited["published"] == audited["entries"]
    assert run("close", ledger.folder).stdout.startswith("0 hours closed; ")


def test_a_ledger_that_a_run_serves_is_left_to_it(ledger: FilledLedger) -> None:
    lock = FolderLock(ledger.folder, 0, "ledger")
    found = run("close", ledger.folder)
    corrected = run("correct", ledger.folder, ledger.receipts[1].id, "--output-tokens", 1)
    lock.release()
    assert found.exit_code == 2
    assert "is in use by another run" in found.stderr
    assert corrected.exit_code == 0
    assert "not in the signed log yet" in corrected.stdout


def test_a_ledger_without_its_private_key_is_not_signed(ledger: FilledLedger) -> None:
    (ledger.folder / "key").unlink()
    found = run("close", ledger.folder)
    assert found.exit_code == 2
    assert "asked for the private key that signs the log (--signing-key)" in found.stderr


def test_while_keys_change_both_sign_and_a_bill_has_one_of_them(ledger: FilledLedger) -> None:
    coming = PrivateKey.new(SITE)
    coming.write(ledger.folder / "key.next")
    (ledger.folder / "log.pub").write_text(f"{KEY.public.text}\n{coming.public.text}\n")
    assert run("close", ledger.folder).exit_code == 0
    for key in (KEY, coming):
        assert run("audit", ledger.folder, "--key", key.public.text).exit_code == 0
    month = f"{EPOCH + timedelta(hours=ledger.receipts[0].hour):%Y-%m}"
    to = ledger.folder.parent / "bill"
    made = run("statement", ledger.folder, "--tenant", "lab", "--month", month, "--to", to)
    assert made.exit_code == 0, made.output
    assert (to / "key").read_text() == f"{KEY.public.text}\n"
