"""`steppe ledger audit`: the sums of books that hold, and one line for each thing that does not."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.fixtures.ledger import (
    CARRIED_UJ,
    FIRST_HOUR,
    IDLE_UJ,
    SITE,
    TRANSITION_UJ,
    UNCLAIMED_UJ,
    FilledLedger,
    fill_ledger,
)
from tests.fixtures.postgresql import postgresql

from steppe.cli import main
from steppe.ledger.signing import PrivateKey


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["ledger", "audit", *map(str, arguments)], prog_name="steppe")


def document(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FilledLedger:
    return fill_ledger(tmp_path_factory.mktemp("made") / "ledger", still_open=2)


@pytest.fixture
def ledger(made: FilledLedger, tmp_path: Path) -> FilledLedger:
    """A copy of the ledger, which a test may damage."""
    shutil.copytree(made.folder, tmp_path / "ledger")
    return FilledLedger(tmp_path / "ledger", made.receipts, made.periods)


def changed(ledger: FilledLedger, statement: str) -> None:
    with sqlite3.connect(ledger.folder / "ledger.db") as connection:
        assert connection.execute(statement).rowcount == 1


def test_books_that_hold(made: FilledLedger) -> None:
    for place in (made.folder, made.folder.parent):  # the ledger itself, and its record
        found = run(place)
        assert (found.exit_code, found.stderr) == (0, "")
        lines = found.stdout.splitlines()
        kinds = "2 certificate, 2 match, 2 period, 11 receipt, 1 tariff"
        entries = f"{SITE}: 18 entries ({kinds}), 18 in the signed log"
        assert (lines[0], lines[-1]) == (entries, "All of it holds.")
        assert "hours: 2 closed, 1 open" in lines[1]
        assert f"  idle          {3 * IDLE_UJ:>24,}" in lines
        assert "green: 4 of 6 Wh are matched by the hour" in lines
        assert f"  carried on    {CARRIED_UJ:>24,}" in lines


def test_the_json_document_has_the_same_sums(made: FilledLedger) -> None:
    found = document(made.folder)
    assert (found["entries"], found["green_wh"], found["faults"]) == (18, 4, [])
    (sums,) = found["energy"]
    parts = ("receipts", "corrections", "idle", "transition", "waste", "unclaimed", "carried")
    assert sum(sums[f"{part}_uj"] for part in parts) == sums["meter_uj"]
    used_uj = IDLE_UJ + TRANSITION_UJ + UNCLAIMED_UJ
    receipts_uj = sum(one.energy_uj for one in made.receipts)
    assert sums["meter_uj"] == receipts_uj + 3 * used_uj + CARRIED_UJ
    nano = sum(one.amount_nano for one in made.receipts)
    assert found["amounts_nano"] == found["paid_nano"] == {"CNY": nano}


def test_a_log_without_its_store_is_audited_too(ledger: FilledLedger) -> None:
    (ledger.folder / "ledger.db").unlink()
    (ledger.folder / "key").unlink()
    found = run(ledger.folder)
    assert found.exit_code == 0
    assert "no store: accounts and entries that are not published were not checked" in found.stdout


def test_a_store_without_a_log_is_audited_too(ledger: FilledLedger) -> None:
    shutil.rmtree(ledger.log)
    found = run(ledger.folder)
    assert found.exit_code == 0
    assert "no log: nothing is published yet" in found.stdout


def booked(ledger: FilledLedger, **changes: object) -> Path:
    """Write the summary of a record beside the ledger; return its folder."""
    receipts_uj = sum(one.energy_uj for one in ledger.receipts)
    own = {"folder": str(ledger.folder), "site": SITE, "run": "run-1", "requests_uj": receipts_uj}
    parts = {"idle_uj": IDLE_UJ, "transition_uj": TRANSITION_UJ, "unclaimed_uj": UNCLAIMED_UJ}
    own |= {name: 3 * value for name, value in parts.items()}
    own["meter_uj"] = receipts_uj + 3 * sum(parts.values()) + CARRIED_UJ
    record = ledger.folder.parent / "record"
    record.mkdir(exist_ok=True)
    (record / "summary.json").write_text(json.dumps({"ledger": [{**own, **changes}]}))
    return record


def test_the_sums_of_a_record_are_those_of_its_ledger(ledger: FilledLedger) -> None:
    found = run(booked(ledger))  # its ledger is in another folder
    assert found.exit_code == 0, found.output
    assert "record: the sums of 1 run are those of the ledger" in found.stdout


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"idle_uj": 1}, f"record: run run-1: idle_uj 1, found {3 * IDLE_UJ} in the ledger"),
        ({"run": "run-2"}, "record: run run-2: found no booking of it in the ledger"),
    ],
)
def test_a_record_with_other_sums_is_found(
    ledger: FilledLedger, changes: dict[str, object], said: str
) -> None:
    found = run(booked(ledger, **changes))
    assert found.exit_code == 1
    assert said in found.stderr


def test_requests_that_still_wait_are_said_until_the_ledger_has_them(ledger: FilledLedger) -> None:
    found = run(booked(ledger, waiting=2, idle_uj=1))
    assert found.exit_code == 0
    assert "2 requests wait for the next run of its ledger" in found.stdout
    assert "wait for" not in run(booked(ledger, waiting=2)).stdout


def test_a_run_that_was_killed_has_no_last_sums_to_compare(ledger: FilledLedger) -> None:
    found = run(booked(ledger, has_ended=False, idle_uj=1))
    assert found.exit_code == 0
    assert "record: run run-1: it was killed, so its last sums are not compared" in found.stdout


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE steppe_ledger_balances SET balance = balance - 1 WHERE account = 'revenue'",
            "revenue: its balance is not the sum of its movements",
        ),
        (
            "UPDATE steppe_ledger_movements SET amount = amount + 9 WHERE kind = 'capture' "
            "AND cause = '00000001'",
            "accounts: 13358 was paid for 00000001, its receipts say 13349",
        ),
        (
            "UPDATE steppe_ledger_entries SET bytes = (SELECT bytes FROM steppe_ledger_entries"
            " WHERE seq = 3) WHERE seq = 2",
            "entry 2: the store and the log have different bytes of it",
        ),
        (
            "UPDATE steppe_ledger_hours SET sums = replace(sums, '\"idle_uj\":1000003', "
            "'\"idle_uj\":1000004') WHERE closed = 0",
            "idle: the runs have counted 3,000,009 uJ, the hours 3,000,010 uJ",
        ),
        (
            "DELETE FROM steppe_ledger_hours WHERE closed = 0",
            "boundary gpu: found no counters of this hour",
        ),
        (
            "UPDATE steppe_ledger_balances SET balance = balance + 1 WHERE account = "
            f"'site/{SITE}/available' AND unit = 'green:{SITE}:{FIRST_HOUR}'",
            f"green:{SITE}:{FIRST_HOUR} by the matches, found",
        ),
        (
            "DELETE FROM steppe_ledger_entries WHERE seq = 17",
            "the store has 17 entries, the log 18",
        ),
    ],
)
def test_a_store_that_was_changed_is_found(ledger: FilledLedger, statement: str, said: str) -> None:
    changed(ledger, statement)
    found = run(ledger.folder)
    assert found.exit_code == 1
    assert said in found.stderr
    assert "not hold" in found.stderr.splitlines()[0]
    assert "All of it holds" not in found.stdout


def test_an_entry_of_the_log_that_was_changed_is_found(ledger: FilledLedger) -> None:
    (tile,) = (ledger.log / "tile" / "entries").rglob("18")
    tile.write_bytes(tile.read_bytes().replace(b'"finish":"stop"', b'"finish":"stoq"', 1))
    found = run(ledger.folder)
    assert found.exit_code == 1
    assert "log: entry 1 is not the one whose hash is in the tree" in found.stderr


def test_a_key_that_has_not_signed_the_log_is_a_fault(made: FilledLedger) -> None:
    other = PrivateKey("other", bytes(32)).public.text
    found = run(made.folder, "--key", other, "--log", SITE)
    assert found.exit_code == 1
    assert "signature: asked for one of other" in found.stderr


def test_a_folder_without_a_ledger_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "asked for a ledger, or for a record with one" in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_ledger_on_postgresql_is_audited_and_billed(tmp_path: Path) -> None:
    with postgresql() as url:
        fill_ledger(tmp_path / "ledger", place=url)
        found = run(tmp_path / "ledger", "--store", url)
        assert found.exit_code == 0, found.output
        month = ("--tenant", "lab", "--month", "2026-11", "--to", str(tmp_path / "bill"))
        bill = ("ledger", "statement", str(tmp_path / "ledger"), "--store", url, *month)
        made = CliRunner().invoke(main, bill)
        assert made.exit_code == 0, made.output
        assert len(list((tmp_path / "bill" / "receipts").glob("*/*.proof"))) == 5
