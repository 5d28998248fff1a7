"""The files of `configs/` that ship with steppe."""

from __future__ import annotations

from pathlib import Path

import steppe
from steppe.config.yaml_file import read_mapping
from steppe.errors import ConfigError


def configs_folder() -> Path:
    """Return the shipped `configs/` folder: inside the installed package, or in the repository.

    Raises:
        ConfigError: There is none.
    """
    package = Path(steppe.__file__).parent
    for folder in (package / "configs", package.parents[1] / "configs"):
        if folder.is_dir():
            return folder
    raise ConfigError(f"asked for the shipped configs, found no folder configs beside {package}")


def shipped_config(name: str) -> Path:
    """Return a file or folder of the shipped `configs/`.

    Args:
        name: Path below `configs/`, such as `demo.yaml` or `gpus`.

    Raises:
        ConfigError: It does not exist.
    """
    path = configs_folder() / name
    if not path.exists():
        raise ConfigError(f"asked for configs/{name}, found none in {path.parent}")
    return path


def shipped_runs() -> dict[str, Path]:
    """Return the shipped run configurations, by name without `.yaml`."""
    return {
        path.stem: path
        for path in sorted(configs_folder().glob("*.yaml"))
        if "power" in read_mapping(path)
    }
