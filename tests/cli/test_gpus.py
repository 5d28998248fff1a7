from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest


def gpus(*options: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a driver stays loaded until its process ends."""
    command = [sys.executable, "-m", "steppe.cli", "gpus", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("cc") is None, reason="the emulator needs a C compiler")
def test_emulated_gpus_are_listed_and_called_emulated() -> None:
    result = gpus("--emulated", "l4", "--count", "2", "--json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)["gpus"]
    assert [row["meter"] for row in rows] == ["emulated", "emulated"]
    assert len({row["uuid"] for row in rows}) == 2
    assert rows[0]["power_limit_range_w"][1] == 72


@pytest.mark.skipif(shutil.which("cc") is None, reason="the emulator needs a C compiler")
def test_an_unknown_profile_is_one_line_that_names_it() -> None:
    result = gpus("--emulated", "abacus")
    assert result.returncode != 0
    assert result.stderr.count("\n") == 1
    assert "abacus" in result.stderr
