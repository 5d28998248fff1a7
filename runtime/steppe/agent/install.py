"""The agent as a service of the host: its unit, its user and group, and its options.

The unit is `deploy/systemd/steppe-agent.service`, with the path of this Python in it. The service
runs as root, so only root may be able to write its Python and its packages: a user with write
access to them would run code as root.
"""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import steppe
from steppe.errors import InstallError

UNIT, GROUP = "steppe-agent.service", "steppe"
PYTHON_OF_UNIT = "/opt/steppe/.venv/bin/python"
"""The path of Python in the shipped unit."""
UNIT_FILE = Path("etc/systemd/system") / UNIT
WANTED = Path("etc/systemd/system/multi-user.target.wants") / UNIT
OPTIONS_FILE = Path("etc/default/steppe-agent")
USERS_FILE = Path("etc/sysusers.d/steppe.conf")
SYSTEMD = Path("/run/systemd/system")
"""Exists where systemd runs the host."""

_USERS = f"""# The user that fleets may run as, and the group whose members may use the agent.
u {GROUP} - "Steppe fleets" /var/lib/steppe
"""
_OPTIONS = """# Options of the Steppe agent beside those of its unit, see `steppe agent --help`;
# the last one of a kind counts. `steppe agent install` leaves this file as it is.
OPTIONS="{options}"
"""


@dataclass(frozen=True, slots=True)
class InstallFile:
    """One file of the installation.

    Attributes:
        path: Where it goes, below the root of the file system.
        text: What it says; a link says where it points.
        is_link: Whether it is a symbolic link.
        is_kept: Whether one that exists is left as it is.
    """

    path: Path
    text: str
    is_link: bool = False
    is_kept: bool = False


def shipped_unit() -> str:
    """Return the unit of `deploy/systemd/`: inside the installed package, or in the repository.

    Raises:
        InstallError: There is none.
    """
    package = Path(steppe.__file__).parent
    for folder in (package, package.parents[1]):
        if (unit := folder / "deploy" / "systemd" / UNIT).is_file():
            return unit.read_text()
    raise InstallError(f"asked for deploy/systemd/{UNIT}, found none beside {package}")


def install_files(python: Path, options: str) -> tuple[InstallFile, ...]:
    """Return the files of the installation.

    Args:
        python: The interpreter that has Steppe.
        options: Options of the agent, as on a command line.
    """
    return (
        InstallFile(USERS_FILE, _USERS),
        InstallFile(OPTIONS_FILE, _OPTIONS.format(options=options), is_kept=True),
        InstallFile(UNIT_FILE, shipped_unit().replace(PYTHON_OF_UNIT, str(python))),
        InstallFile(WANTED, f"../{UNIT}", is_link=True),
    )


def write_files(files: Sequence[InstallFile], root: Path) -> list[str]:
    """Write the files below a root, and return a line about each.

    Raises:
        InstallError: One cannot be written.
    """
    lines = []
    for file in files:
        path = root / file.path
        try:
            lines.append(f"{_write(file, path)} {path}")
        except OSError as error:
            raise InstallError(f"{path}: cannot be written: {error.strerror}") from error
    return lines


def _write(file: InstallFile, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if file.is_link:
        path.unlink(missing_ok=True)
        path.symlink_to(file.text)
        return "linked"
    if file.is_kept and path.exists():
        return "kept"
    path.write_text(file.text)
    path.chmod(0o644)
    return "wrote"


def describe(files: Sequence[InstallFile], root: Path) -> str:
    """Return what `write_files` would write, as text."""
    parts = []
    for file in files:
        path = root / file.path
        kept = " (kept if it exists)" if file.is_kept else ""
        head = f"# {path} -> {file.text}" if file.is_link else f"# {path}{kept}"
        parts.append(head if file.is_link else f"{head}\n{file.text.rstrip()}")
    return "\n\n".join(parts)


def start_service(run: Callable[[Sequence[str]], None]) -> list[str]:
    """Create user and group and start the service; return a line about each step.

    Args:
        run: Runs a command and raises if it fails.
    """
    commands = (
        ("systemd-sysusers", str(Path("/") / USERS_FILE)),
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", UNIT),
        ("systemctl", "restart", UNIT),
    )
    for command in commands:
        run(command)
    return [f"ran {' '.join(command)}" for command in commands]


def run_command(command: Sequence[str]) -> None:
    """Run a command of the host.

    Raises:
        InstallError: There is no such command, or it failed.
    """
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60.0)
    except FileNotFoundError as error:
        raise InstallError(f"asked for {command[0]}, found no such command") from error
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"{' '.join(command)}: no end within 60 s") from error
    except subprocess.CalledProcessError as error:
        words = " ".join(error.stderr.split()) or f"exit code {error.returncode}"
        raise InstallError(f"{' '.join(command)}: {words}") from error


def writable_by_others(paths: Sequence[Path]) -> str | None:
    """Return why a user other than root may change a file; None if none may.

    Each folder on the way counts, too, also that of a link and of what it points to.
    """
    for path in paths:
        ways = {path.absolute(), path.resolve()}
        for part in sorted({part for way in ways for part in (way, *way.parents)}):
            if part.is_symlink():
                continue
            found = part.stat()
            if found.st_uid != 0:
                return f"{part} belongs to user {found.st_uid}"
            is_sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
            if found.st_mode & (stat.S_IWOTH | stat.S_IWGRP) and not is_sticky:
                return f"{part} may be written by others than its owner"
    return None
