"""Options that commands of the grid share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from steppe.config import RunConfig
from steppe.options import GivenPath
from steppe.run.grid_site import with_prices_of

WIDTH = 110
"""Columns of text where no terminal says its width."""
_Command = TypeVar("_Command", bound=Callable[..., Any])


def prices_option(command: _Command) -> _Command:
    """Add the option for a file of prices."""
    option = click.option(
        "--prices",
        type=GivenPath(path_type=Path),
        help="Prices, read as `grid.plan.prices` says; that file by default.",
    )
    return option(command)


def with_prices(config: RunConfig, path: Path | None) -> RunConfig:
    """Return the configuration with another file of prices, where one is given."""
    return config if path is None else with_prices_of(config, path)
