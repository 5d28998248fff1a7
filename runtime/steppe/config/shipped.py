"""The files of `configs/` that come with steppe."""

from __future__ import annotations

from pathlib import Path

import steppe
from steppe.errors import ConfigError


def shipped_config(name: str) -> Path:
    """Return a file or folder of `configs/`: inside the package, or in the repository.

    Args:
        name: Its path below `configs/`, such as `demo.yaml` or `gpus`.

    Raises:
        ConfigError: Neither has it.
    """
    package = Path(steppe.__file__).parent
    for folder in (package / "configs", package.parents[1] / "configs"):
        if (folder / name).exists():
            return folder / name
    raise ConfigError(f"asked for configs/{name}, found none beside {package}")
