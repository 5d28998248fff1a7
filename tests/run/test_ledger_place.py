from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steppe.config import RunConfig
from steppe.errors import ConfigError
from steppe.report.ledger_totals import LedgerTotals
from steppe.report.record_folder import LEDGER_FOLDER, refuse_full_folder
from steppe.run.ledger_place import in_record, with_ledger_folder

TOTALS = LedgerTotals("/elsewhere", "hohhot", "run", 3, 2, 20, 50, 20, 5, 5)


def config_of(**ledger: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": "none"},
            "device": {"kind": "emulated"},
            "power": {"supply": [{"kind": "constant", "watts": 100.0}]},
            "ledger": ledger,
        }
    )


def test_a_ledger_without_a_folder_is_in_the_record(tmp_path: Path) -> None:
    found = with_ledger_folder(config_of(), tmp_path).ledger
    assert found is not None
    assert found.folder == tmp_path / "ledger"
    (tmp_path / LEDGER_FOLDER).mkdir()
    refuse_full_folder(tmp_path)


def test_a_folder_of_its_own_stays(tmp_path: Path) -> None:
    config = config_of(folder="/books")
    assert with_ledger_folder(config, tmp_path) == config
    assert with_ledger_folder(config, None) == config


def test_without_any_folder_there_are_no_receipts_and_a_line_says_so() -> None:
    lines: list[str] = []
    assert with_ledger_folder(config_of(), None, lines.append).ledger is None
    (line,) = lines
    assert "ledger.folder" in line
    with pytest.raises(ConfigError, match=r"^ledger.folder: asked for a folder, or for a record"):
        with_ledger_folder(config_of(accounts="required"), None)


def test_the_record_names_a_folder_within_it_by_its_relative_path(tmp_path: Path) -> None:
    within = replace(TOTALS, folder=str(tmp_path / "ledger"))
    assert in_record(within, tmp_path).folder == "ledger"
    assert in_record(TOTALS, tmp_path) == TOTALS
    assert in_record(TOTALS, None) == TOTALS
