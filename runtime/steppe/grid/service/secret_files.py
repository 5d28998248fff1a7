"""Secrets and keys of links, which are in files of their own."""

from __future__ import annotations

from pathlib import Path

from steppe.errors import UsageError


def read_secret(what: str, path: Path) -> str:
    """Return the secret in a file of one line.

    Args:
        what: What the configuration calls it.
        path: The file.

    Raises:
        UsageError: It cannot be read, or does not hold one line.
    """
    lines = read_text(what, path).split()
    if len(lines) != 1:
        raise UsageError(f"{what}: asked for one line without spaces in {path}, found {len(lines)}")
    return lines[0]


def read_text(what: str, path: Path) -> str:
    """Return the text of a file.

    Args:
        what: What the configuration calls it.
        path: The file.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else "no text"
        raise UsageError(f"{what}: asked for the text of {path}, found: {found}") from error
