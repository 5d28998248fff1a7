"""Where the ledger of a run is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from steppe.config import RunConfig
from steppe.errors import ConfigError
from steppe.report.ledger_totals import LedgerTotals
from steppe.report.record_folder import LEDGER_FOLDER


def with_ledger_folder(
    config: RunConfig, record: Path | None, warn: Callable[[str], None] = lambda _: None
) -> RunConfig:
    """Return the configuration with the folder of its ledger.

    Without a folder and without a record there is no ledger.

    Args:
        config: The run.
        record: Folder of its record; None for none.
        warn: Gets a line if there is to be no ledger.

    Raises:
        ConfigError: Accounts are required, and there is no place for them.
    """
    section = config.ledger
    if section is None or section.folder is not None:
        return config
    if record is not None:
        folder = (record / LEDGER_FOLDER).absolute()
        ledger = section.model_copy(update={"folder": folder})
        return config.model_copy(update={"ledger": ledger})
    if section.accounts == "required":
        asked = "asked for a folder, or for a record (--record), where accounts are required"
        raise ConfigError(f"ledger.folder: {asked}, found neither")
    warn("no receipts: the ledger has no folder (ledger.folder), and the run no record (--record)")
    return config.model_copy(update={"ledger": None})


def in_record(totals: LedgerTotals, record: Path | None) -> LedgerTotals:
    """Return the totals with a folder that is relative to the record, if it is within it."""
    folder = Path(totals.folder)
    if record is None or not folder.is_relative_to(record.absolute()):
        return totals
    return replace(totals, folder=str(folder.relative_to(record.absolute())))
