"""How a block of README or docs is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import COMMANDS, EMULATED, ROOT, Block

from steppe.emulator.environment import emulated_environment


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which `steppe` and `python` are those of this interpreter."""
    tools = Path(sys.executable).parent
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STEPPE_")}
    path = f"{tools}:{os.environ['PATH']}"
    return kept | {"PATH": path, "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "120"}


def with_emulated_gpus(folder: Path) -> dict[str, str]:
    """Return an environment in which NVML shows two emulated H100."""
    return environment(folder) | emulated_environment("h100", 2, folder / "gpus")


def working_folder(folder: Path) -> Path:
    """Return a folder that looks like a fresh clone to the commands of a page."""
    shutil.copytree(ROOT / "configs", folder / "configs", dirs_exist_ok=True)
    return folder


def run_block(block: Block, folder: Path, within_s: float) -> None:
    """Run a block; fail with its place and its output when it fails."""
    is_emulated = block.marker == EMULATED
    program = ["bash", "-euo", "pipefail", "-c"] if block.language == COMMANDS else ["python", "-c"]
    result = subprocess.run(
        [*program, block.text],
        cwd=folder,
        env=with_emulated_gpus(folder) if is_emulated else environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=within_s,
    )
    where = f"{block.page}:{block.line}"
    assert result.returncode == 0, f"{where} ended with {result.returncode}:\n{result.stdout}"
