"""The folders of the services of a run: what the configuration leaves open is in the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from steppe.config import RunConfig
from steppe.run.grid_place import with_grid_folder
from steppe.run.ledger_place import with_ledger_folder
from steppe.run.sites_place import with_sites_folder


def with_service_folders(
    config: RunConfig, record: Path | None, warn: Callable[[str], None] = lambda _: None
) -> RunConfig:
    """Return the configuration with all folders.

    Args:
        config: The run.
        record: Folder of its record; None for none.
        warn: Gets a line if there is to be no ledger.

    Raises:
        ConfigError: A service needs a folder, and there is no place for it.
    """
    return with_sites_folder(
        with_grid_folder(with_ledger_folder(config, record, warn), record), record
    )
