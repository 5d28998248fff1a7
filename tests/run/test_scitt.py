"""`steppe ledger export --scitt` writes what others can verify, and refuses what does not hold."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result
from tests.ledger.scitt.cose_reader import check_receipt
from tests.ledger.test_receipt import RECEIPT

from steppe.cli import main
from steppe.ledger.log.log import Log
from steppe.ledger.signing import PrivateKey

ORIGIN = "example.org/steppe"
KEY = PrivateKey(ORIGIN, bytes(range(32)))


def export(folder: Path, *more: object) -> Result:
    arguments = ["ledger", "export", folder / "log", *more, "--to", folder / "papers"]
    return CliRunner().invoke(main, list(map(str, arguments)), prog_name="steppe")


def written(folder: Path) -> Path:
    Log(folder / "log", ORIGIN, [KEY]).add([b"tariff", RECEIPT.entry])
    KEY.write(folder / "key")
    return folder / "key"


def test_entries_are_written_as_statements_and_receipts(tmp_path: Path) -> None:
    key = written(tmp_path)
    found = export(tmp_path, 1, 0, "--scitt", "--key", key, "--json")
    assert found.exit_code == 0, found.output
    papers = tmp_path / "papers"
    names = [Path(path).name for row in json.loads(found.stdout) for path in row.values()]
    assert names == ["receipt-1.scitt", "receipt-1.cose", "entry-0.scitt", "entry-0.cose"]
    receipt, pem = (papers / "receipt-1.cose").read_bytes(), (papers / "log.pem").read_text()
    assert check_receipt(receipt, RECEIPT.entry, pem)[1:] == (2, 1)
    assert receipt in (papers / "receipt-1.scitt").read_bytes()
    lines = export(tmp_path, 0, "--scitt", "--key", key).stdout.splitlines()
    assert lines == [str(papers / "entry-0.scitt"), str(papers / "entry-0.cose")]


def test_what_does_not_hold_is_not_exported(tmp_path: Path) -> None:
    key = written(tmp_path)
    PrivateKey(ORIGIN, bytes(32)).write(tmp_path / "other")
    assert "asked for entry 2, found 2 entries" in failed(
        export(tmp_path, 2, "--scitt", "--key", key)
    )
    wrong = export(tmp_path, 1, "--scitt", "--key", tmp_path / "other")
    assert "signature: asked for one of" in failed(wrong, 1)
    assert "'--scitt'" in failed(export(tmp_path, 1, "--key", key))
    entries = tmp_path / "log/tile/entries/000.p/2"
    entries.write_bytes(entries.read_bytes().replace(b'"lab"', b'"lob"'))
    changed = export(tmp_path, 0, 1, "--scitt", "--key", key)
    assert "inclusion: the path does not lead" in failed(changed, 1)
    assert not (tmp_path / "papers").exists()


def failed(result: Result, exit_code: int = 2) -> str:
    assert (result.exit_code, result.stdout) == (exit_code, "")
    return result.stderr
