"""Where a run keeps what it sent to other sites."""

from __future__ import annotations

from pathlib import Path

from steppe.config import RunConfig
from steppe.errors import ConfigError
from steppe.report.record_folder import SITES_FOLDER


def with_sites_folder(config: RunConfig, record: Path | None) -> RunConfig:
    """Return the configuration with the folder of its sites.

    Args:
        config: The run.
        record: Folder of its record; None for none.

    Raises:
        ConfigError: There are other sites, and no place for what they are paid for.
    """
    section = config.sites
    if section is None or section.folder is not None:
        return config
    if record is None:
        asked = "asked for a folder, or for a record (--record), where it is kept what was sent"
        raise ConfigError(f"sites.folder: {asked}, found neither")
    folder = (record / SITES_FOLDER).absolute()
    return config.model_copy(update={"sites": section.model_copy(update={"folder": folder})})
