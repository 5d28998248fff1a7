"""`steppe ledger certificates|score`: from a registry's file to cancelled certificates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.ledger.green.hours import HOUR, LATE_US, RECEIPTS, period_of

from steppe.cli import main
from steppe.ledger.green.hourly import HourEnergy
from steppe.ledger.green.supply import UJ_PER_WH
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.statements.month import hour_text
from steppe.ledger.store.green import GreenTerms, keep_terms, match_hour
from steppe.ledger.store.ledger_store import LedgerStore, LogEntry

HEAD = "id,form,owner,producer,zone,source,wh,from,to\n"
GEC = f"g1,gec,hohhot,park,mengxi,sun,1000000,{hour_text(HOUR - 9)},{hour_text(HOUR + 9)}\n"
OWN = f"hohhot.wind.{HOUR}"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["ledger", *map(str, arguments)], prog_name="steppe")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A ledger with one closed hour: 4 Wh of wind, 8 Wh of load, half of it of receipts."""
    store = LedgerStore(str(tmp_path / "ledger.db"))
    period = period_of(RECEIPTS, idle_wh=1, rest_wh=4)
    energy = HourEnergy(8 * UJ_PER_WH, {"wind": 4 * UJ_PER_WH, "grid": 4 * UJ_PER_WH})
    entries = [LogEntry(RECEIPT, one.id, one.tenant, LATE_US, one.entry) for one in RECEIPTS]
    with store.transaction() as transaction:
        inside_us = HOUR * 3_600_000_000
        entries = [LogEntry(RECEIPT, one.id, one.tenant, inside_us, one.entry) for one in RECEIPTS]
        transaction.add([*entries, LogEntry(PERIOD, period.id, "", LATE_US, period.entry)])
        keep_terms(transaction, "hohhot", GreenTerms("mengxi"))
        assert match_hour(transaction, period, RECEIPTS, energy, LATE_US)
    yield tmp_path
    assert store.audit() == []
    store.close()


def test_certificates_are_taken_in_matched_and_cancelled(folder: Path) -> None:
    file = folder / "bought.csv"
    file.write_text(HEAD + GEC)
    found = run("certificates", "import", folder, file)
    assert (found.exit_code, found.stdout) == (
        0,
        "1 new certificates, 0 that were there already\n",
    )
    assert json.loads(run("certificates", "import", folder, file, "--json").stdout) == {
        "new": 0,
        "known": 1,
    }
    listed = run("certificates", "list", folder).stdout.splitlines()
    assert listed[0].startswith("g1  gec sun  2025-11-24T07:00:00Z to 2025-11-25T01:00:00Z")
    assert listed[0].endswith("hohhot: 1,000,000 Wh free, 0 Wh matched of 1,000,000 Wh")
    assert run("certificates", "match", folder).stdout == (
        "1 hours: 0 Wh more by the hour, 4 Wh of GECs\n"
    )
    assert run("certificates", "match", folder).stdout.startswith("0 hours")
    cancelled = json.loads(
        run("certificates", "cancel", folder, "--owner", "hohhot", "--json").stdout
    )
    assert cancelled == {"cancelled_wh": {"g1": 4, OWN: 4}}
    again = run("certificates", "cancel", folder, "g1", "--owner", "hohhot")
    assert (again.exit_code, again.stderr) == (
        1,
        "steppe: certificate g1: asked to cancel it, found it cancelled\n",
    )
    rows = json.loads(run("certificates", "list", folder, "--json").stdout)
    assert [(row["id"], row["free_wh"], row["matched_wh"]) for row in rows] == [
        ("g1", 0, 0),
        (OWN, 0, 0),
    ]


def test_the_score_is_the_share_that_was_green_in_its_hour(folder: Path) -> None:
    found = run("score", folder)
    assert found.exit_code == 0, found.stderr
    lines = found.stdout.splitlines()
    assert f"site hohhot: 50.0000 % of {8 * UJ_PER_WH:,} uJ green by the hour" in lines
    assert any(line.startswith("tenant lab: 50.0000 % of") for line in lines)
    document = json.loads(run("score", folder, "--month", "2025-11", "--json").stdout)
    assert document["source_wh"] == {"grid/unknown": 4, "wind": 4}
    tenants = document["tenants"]
    assert sum(each["used_uj"] for each in tenants.values()) == 4 * UJ_PER_WH
    assert sum(each["green_uj"] for each in tenants.values()) == 2 * UJ_PER_WH


def test_hours_without_a_match_have_no_score(folder: Path) -> None:
    found = run("score", folder, "--month", "2026-01")
    assert found.exit_code == 1
    assert "asked for hours that are matched, found none" in found.stderr


def test_a_file_with_a_wrong_row_changes_nothing(folder: Path) -> None:
    file = folder / "bought.csv"
    file.write_text(HEAD + GEC + GEC.replace("g1", "g2").replace("1000000", "5"))
    found = run("certificates", "import", folder, file)
    assert found.exit_code == 2
    assert found.stderr.startswith(f"steppe: {file}: certificate 3: certificate g2: asked for 1000")
    assert len(json.loads(run("certificates", "list", folder, "--json").stdout)) == 1


def test_a_long_file_is_taken_in_some_at_a_time(folder: Path) -> None:
    file = folder / "bought.csv"
    file.write_text(HEAD + "".join(GEC.replace("g1", f"g{number}") for number in range(205)))
    for new in (205, 0):
        found = json.loads(run("certificates", "import", folder, file, "--json").stdout)
        assert found == {"new": new, "known": 205 - new}


def test_named_certificates_and_a_month_exclude_each_other(folder: Path) -> None:
    options = ("--owner", "hohhot", "--month", "2025-11")
    found = run("certificates", "cancel", folder, "g1", *options)
    assert (found.exit_code, found.stderr) == (
        2,
        "steppe: asked for certificates or --month, found both\n",
    )
