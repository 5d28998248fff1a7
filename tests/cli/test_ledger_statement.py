"""`steppe ledger statement` and `explain`: what a customer gets, and what an operator sees."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.fixtures.ledger import (
    BOUNDARY,
    FIRST_HOUR,
    IDLE_UJ,
    KEY,
    SITE,
    FilledLedger,
    fill_ledger,
)

from steppe.cli import main
from steppe.ledger.log.log import Log
from steppe.ledger.periods.shares import shares_of
from steppe.ledger.settlement import RemoteEnergy, TenantShare
from steppe.ledger.store.ledger_store import LedgerStore, LogEntry


def run(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["ledger", command, *map(str, arguments)], prog_name="steppe")


def statement(ledger: FilledLedger, to: Path, *more: object, tenant: str = "lab") -> Result:
    month = ("--tenant", tenant, "--month", "2026-11", "--to", to)
    return run("statement", ledger.folder, *month, *more)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> FilledLedger:
    return fill_ledger(tmp_path_factory.mktemp("made") / "ledger", hours=3, still_open=2)


@pytest.fixture(scope="module")
def bill(ledger: FilledLedger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("bill") / "bill"
    made = statement(ledger, to)
    assert made.exit_code == 0, made.output
    assert f"{to}: " in made.stdout
    assert "1 hour is not closed yet: without shares of idle and green energy" in made.stdout
    return to


def test_the_bill_has_each_receipt_of_the_tenant_and_no_other(
    ledger: FilledLedger, bill: Path
) -> None:
    own = [one for one in ledger.receipts if one.tenant == "lab"]
    files = {path.stem: path for path in (bill / "receipts").glob("*/*.json")}
    assert {id_: path.read_bytes() for id_, path in files.items()} == {
        one.id: one.entry for one in own
    }
    assert all(path.with_suffix(".proof").exists() for path in files.values())
    assert {path.name for path in bill.iterdir()} == {
        *("statement.html", "focus.csv", "receipts", "tariffs", "hours", "green"),
        *("checkpoint", "key", "verify_receipt.py", "README.md"),
    }


def test_page_table_and_receipts_have_one_total(ledger: FilledLedger, bill: Path) -> None:
    own = [one for one in ledger.receipts if one.tenant == "lab"]
    nano = sum(one.amount_nano for one in own)
    rows = list(csv.DictReader((bill / "focus.csv").read_text().splitlines()))
    assert sum(Decimal(row["EffectiveCost"]) for row in rows) == Decimal(nano).scaleb(-9)
    page = (bill / "statement.html").read_text()
    assert f"{nano / 1e9:.9f}" in page
    assert "1 hour is not closed yet: without shares of idle and green energy." in page


def test_shares_of_idle_are_those_of_the_hours(ledger: FilledLedger, bill: Path) -> None:
    of_hour = [one for one in ledger.receipts if one.hour == FIRST_HOUR]
    idle = {one.receipt: one.idle_uj for one in shares_of(IDLE_UJ, of_hour)}
    for path in (bill / "receipts").glob("*/*.shares"):
        if ".c" in path.name:  # a correction has no share
            continue
        period, match = json.loads(path.read_text())
        assert (period["kind"], match["kind"]) == ("period", "match")
        if period["id"] == f"{SITE}/{BOUNDARY}/{FIRST_HOUR}":
            assert period["share"]["idle_uj"] == idle.pop(path.stem)
            # two thirds of the energy of the site are green
            assert match["share"]["green_uj"] == pytest.approx(match["share"]["energy_uj"] * 2 / 3)
    assert len(idle) == 2  # those of the other tenant
    rows = list(csv.DictReader((bill / "focus.csv").read_text().splitlines()))
    joules = sum(Decimal(row["x_IdleJoules"] or 0) for row in rows)
    assert 0 < joules < Decimal(3 * IDLE_UJ).scaleb(-6)


def test_a_second_bill_shows_that_the_log_only_grew(bill: Path, tmp_path: Path) -> None:
    grown = fill_ledger(tmp_path / "ledger", hours=3, still_open=2)
    store = LedgerStore(str(grown.folder / "ledger.db"))
    store.add([LogEntry("note", "1", "", 0, b'{"kind":"note"}')])
    Log(grown.log, SITE, [KEY]).add(store.entries(store.size() - 1))
    store.close()
    made = statement(grown, tmp_path / "next", "--older", bill / "checkpoint")
    assert made.exit_code == 0, made.output
    (receipt, *_) = sorted((tmp_path / "next" / "receipts").glob("*/*.json"))
    verifier = (tmp_path / "next" / "verify_receipt.py").read_text()
    assert "--consistency" in verifier
    assert receipt.with_suffix(".proof").exists()
    assert (tmp_path / "next" / "consistency.txt").read_text().count("\n") >= 1


def test_receipts_that_are_not_published_have_no_proof(tmp_path: Path) -> None:
    ledger = fill_ledger(tmp_path / "ledger", hours=1)
    for path in sorted(ledger.log.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    made = statement(ledger, tmp_path / "bill", "--json")
    document = json.loads(made.stdout)
    assert document["receipts_without_proof"] == 3
    assert not (tmp_path / "bill" / "key").exists()


@pytest.mark.parametrize(
    ("tenant", "more", "said"),
    [
        ("nobody", (), "asked for 2026-11 of nobody, found no receipt"),
        ("lab", ("--month", "2026-13"), "month: asked for one such as 2026-11"),
        ("lab", ("--older", "nowhere"), "nowhere: No such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    ledger: FilledLedger, tmp_path: Path, tenant: str, more: tuple[str, ...], said: str
) -> None:
    found = statement(ledger, tmp_path / "bill", *more, tenant=tenant)
    assert (found.exit_code, found.stdout) == (2, "")
    assert said in found.stderr


def test_a_folder_with_files_is_not_written_to(ledger: FilledLedger, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    found = statement(ledger, tmp_path)
    assert found.exit_code == 2
    assert "asked for a new folder, found files in it" in found.stderr


def test_a_receipt_is_explained_to_the_last_unit(ledger: FilledLedger) -> None:
    one = ledger.receipts[1]
    for name in (one.id, one.request):
        found = run("explain", ledger.folder, name)
        assert found.exit_code == 0, found.output
        for said in (
            f"receipt {one.id} of uni, request req-1: small, standard",
            "entry 2 of 25: in the signed log",
            "9 prompt tokens, computed x 0.000000100 = 0.000000900",
            "31 output tokens x 0.000000400 = 0.000012400",
            "1.234568 J x 0.000000007 = 0.000000009",
            "meter interval is not kept",
            "share of idle: 0.250001 J, by the joules of the receipts",
            "hold: ",
            "capture: 0.000013349 CNY, tenant/uni/held -> revenue",
        ):
            assert said in found.stdout, found.stdout


def test_a_receipt_of_an_open_hour_and_its_corrections_are_explained(
    ledger: FilledLedger,
) -> None:
    found = run("explain", ledger.folder, ledger.receipts[-1].id)
    assert "open until 2026-11-01T15:00:00.000000Z" in found.stdout
    first = run("explain", ledger.folder, ledger.receipts[0].id)
    assert "corrected by 00000000.c1: -15 output tokens, -0.000000600" in first.stdout
    document = json.loads(run("explain", ledger.folder, ledger.receipts[0].id, "--json").stdout)
    assert [one["id"] for one in document["corrections"]] == ["00000000.c1"]


def test_a_receipt_that_is_not_there_is_one_line(ledger: FilledLedger) -> None:
    found = run("explain", ledger.folder, "nothing")
    assert (found.exit_code, found.stdout) == (2, "")
    assert "asked for 'nothing', found none of this id or request" in found.stderr


def test_energy_at_other_sites_is_a_line_of_its_own(tmp_path: Path) -> None:
    ledger = fill_ledger(tmp_path / "ledger", hours=1)
    store = LedgerStore(str(tmp_path / "ledger" / "ledger.db"))
    shares = (TenantShare("lab", 2, 30, 20, 1_234_567, 9), TenantShare("shop", 1, 1, 1, 1, 1))
    for number, period in enumerate((FIRST_HOUR, FIRST_HOUR + 1, FIRST_HOUR + 31 * 24)):
        part = RemoteEnergy(SITE, "hohhot", period, 3600, "", 0, 1, shares, (), 0)
        logged = part.logged
        store.add([LogEntry(logged.kind, f"{number}", "", logged.time_us, logged.entry)])
    store.close()
    made = statement(ledger, tmp_path / "bill")
    assert made.exit_code == 0, made.output
    assert "energy at other sites: hohhot, 4 receipts, 2.469134 J" in made.stdout
    page = (tmp_path / "bill" / "statement.html").read_text()
    assert "Energy at other sites" in page
    assert "2.469134" in page
    found = json.loads(statement(ledger, tmp_path / "again", "--json").stdout)
    (other,) = found["elsewhere"]
    assert (other["site"], other["energy_uj"], other["output_tokens"]) == ("hohhot", 2_469_134, 40)
