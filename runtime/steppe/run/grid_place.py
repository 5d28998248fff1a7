"""Where the limits of the grid of a run are kept, and the files that its links need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from steppe.config import GridSection, RunConfig
from steppe.config.section import Section
from steppe.errors import ConfigError
from steppe.report.record_folder import GRID_FOLDER


def with_grid_folder(config: RunConfig, record: Path | None) -> RunConfig:
    """Return the configuration with the folder of its grid.

    Args:
        config: The run.
        record: Folder of its record; None for none.

    Raises:
        ConfigError: There is a grid, and no place for its limits: a restart would lift them.
    """
    section = config.grid
    if section is None or section.folder is not None:
        return config
    if record is None:
        asked = "asked for a folder, or for a record (--record), where limits are kept"
        raise ConfigError(f"grid.folder: {asked}, found neither")
    folder = (record / GRID_FOLDER).absolute()
    return config.model_copy(update={"grid": section.model_copy(update={"folder": folder})})


def check_grid(section: GridSection) -> None:
    """Check that the files of the links are there.

    Raises:
        ConfigError: One is not.
    """
    for name, path in _files("grid", section):
        if not path.is_file():
            raise ConfigError(f"{name}: asked for a file, found none: {path}")


def _files(name: str, value: object) -> Iterator[tuple[str, Path]]:
    """Yield the files of a section and of those in it, by the key that names each."""
    match value:
        case Section():
            for key in type(value).model_fields:
                yield from _files(f"{name}.{key}", getattr(value, key))
        case tuple():
            for index, each in enumerate(value):
                yield from _files(f"{name}.{index}", each)
        case Path() if name.endswith("_file"):
            yield name, value
