"""Limits that live in a folder of the test."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.grid.limits.world import LINK, Process, World

from steppe.grid.limits.limits import Limits


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The kept file."""
    return tmp_path / "limits" / "kept"


@pytest.fixture
def start(world: World, path: Path) -> Process:
    """Start a process of the site anew, with one link."""
    return lambda: Limits(path, [LINK], clock=world.clock())
