"""Run the programs of which the release check is made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from release.finding import ReleaseError

RUN_S = 600.0
"""Longest time for one program, s."""
CONCLUSION = "╰─▶"
"""What uv puts in front of the cause of a failure, which may have several lines."""


def run(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    limit_s: float = RUN_S,
) -> str:
    """Return what a program prints to its standard output.

    Args:
        command: Program and arguments.
        folder: Where it runs.
        environment: Its environment; that of this process by default.
        limit_s: Longest time, s.

    Raises:
        ReleaseError: It cannot be started, takes too long, or fails.
    """
    done = outcome(command, folder, environment, limit_s)
    if done.returncode != 0:
        raise ReleaseError(f"{shown(command)} failed: {reason(done.stdout, done.stderr)}")
    return done.stdout


def outcome(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    limit_s: float = RUN_S,
) -> subprocess.CompletedProcess[str]:
    """Return how a program ended, also when it failed.

    Raises:
        ReleaseError: It cannot be started, or takes too long.
    """
    words = [str(word) for word in command]
    try:
        return subprocess.run(
            words,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )
    except FileNotFoundError as error:
        raise ReleaseError(f"asked for the program {words[0]}, found none") from error
    except subprocess.TimeoutExpired as error:
        asked = f"asked {shown(command)} to end within {limit_s:.0f} s"
        raise ReleaseError(f"{asked}, found it running") from error


def tool(name: str) -> str:
    """Return the path of a Python package's program: beside this interpreter, or in PATH.

    Raises:
        ReleaseError: There is none.
    """
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise ReleaseError(
            f"asked for the program {name}, found none beside {sys.executable}: it comes with the "
            "extra `release` (make release-check installs it)"
        )
    return found


def reason(output: str, errors: str) -> str:
    """Return why a program failed, in one line: its last one, or the conclusion of uv."""
    said = [line.strip() for line in f"{output}\n{errors}".splitlines() if line.strip()]
    marks = [number for number, line in enumerate(said) if line.startswith(CONCLUSION)]
    return " ".join(said[marks[-1] :]) if marks else (said or ["no output"])[-1]


def git(root: Path, *arguments: str) -> str:
    """Return what git says about a tree.

    Raises:
        ReleaseError: There is no git, or the tree is no repository.
    """
    if shutil.which("git") is None:
        raise ReleaseError("asked for the program git, found none (on Debian: apt install git)")
    return run(["git", *arguments], root).strip()


def shown(command: Sequence[str | Path]) -> str:
    """Return the beginning of a command, as a message shows it."""
    words = [str(word) for word in command[:4]]
    return " ".join([Path(words[0]).name, *words[1:]])
