"""`steppe sites settle` over the ledgers of two sites that have settled."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from tests.sites.settlement.two_sites import HOME, MOST_UJ, TARGET, Pair, served

from steppe.cli import main
from steppe.ledger.service_entry import SETTLEMENT
from steppe.ledger.settlement import Settlement
from steppe.ledger.store.ledger_store import LedgerStore, LogEntry


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    found = await Pair.open(tmp_path)
    await found.one("r1", 700, tenant="lab")
    await found.one("r2", MOST_UJ + 300, tenant="shop")
    return found


def run(folder: Path, *options: str) -> Result:
    asked = ["sites", "settle", str(folder / HOME), str(folder / TARGET), *options]
    return CliRunner().invoke(main, asked, prog_name="steppe")


async def test_sites_that_agree_are_shown_with_exit_code_0(pair: Pair, tmp_path: Path) -> None:
    await pair.settle()
    await pair.one("r3", 55)
    await pair.stop()
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if "->" in line)
    assert row.split() == [HOME, "->", TARGET, "1", "2", "100", "0.006000", "0.005700", "1", "yes"]
    assert f"{HOME} owes 0.005700 J by its own ledger, 0.005700 J by those of its" in result.output
    assert "noted 1 over_cap" in result.output
    assert "All of it agrees." in result.output
    (found,) = json.loads(run(tmp_path, "--json").output)["pairs"]
    assert (found["energy_uj"], found["owed_uj"], found["home_owed_uj"]) == (6_000, 5_700, 5_700)
    assert (found["open_receipts"], found["open_uj"], found["agrees"]) == (1, 55, True)


async def test_a_receipt_for_nothing_sent_makes_it_fail_with_its_name(
    pair: Pair, tmp_path: Path
) -> None:
    await pair.serve(served("forged", 9))
    await pair.settle()
    await pair.stop()
    result = run(tmp_path)
    assert result.exit_code == 1
    assert f"{HOME} says 2 receipts, 5700 uJ owed, {TARGET} says 3 receipts" in result.output
    assert "missing_here: request forged: found neither a note of it nor a token" in result.output


async def test_a_settlement_that_its_receipts_do_not_add_up_to_is_seen(
    pair: Pair, tmp_path: Path
) -> None:
    await pair.settle()
    claimed = pair.both()[1]
    assert claimed is not None
    values = orjson.loads(claimed.entry) | {"period": claimed.period + 1, "first": claimed.until}
    more = orjson.dumps(values | {"until": claimed.until}, option=orjson.OPT_SORT_KEYS)
    store = LedgerStore(str(pair.target.folder / "ledger" / "ledger.db"))
    store.add([LogEntry(SETTLEMENT, "served/x", "", 1, Settlement.read(more).entry)])
    store.close()
    await pair.stop()
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "receipts: asked for 0, the sum of its receipts, found 2" in result.output
    assert f"{HOME} says nothing, {TARGET} says 2 receipts" in result.output


async def test_a_log_that_was_changed_is_seen(pair: Pair, tmp_path: Path) -> None:
    await pair.settle()
    await pair.stop()
    tile = next(
        path
        for path in sorted((pair.target.folder / "ledger" / "log").rglob("*"))
        if path.is_file() and b'"energy_uj":700' in path.read_bytes()
    )
    tile.write_bytes(tile.read_bytes().replace(b'"energy_uj":700', b'"energy_uj":600'))
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "log: entry" in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "asked for the folders of sites or for --url, found neither"),
        (["x", "--url", "http://127.0.0.1:1"], "or for --url, found both"),
        (["missing"], "missing: asked for a ledger, or for a record with one"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["sites", "settle", *options], prog_name="steppe")
    assert result.exit_code == 2
    assert said in result.output
