"""Compile the emulated libnvidia-ml.so.1 at first use, into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from steppe.errors import InstallError

LIBRARY_NAME = "libnvidia-ml.so.1"

_SOURCE_FOLDER = Path(__file__).resolve().parent
_COMPILERS = ("cc", "gcc", "clang")
# The soname lets a preloaded copy answer every later dlopen("libnvidia-ml.so.1").
_FLAGS = (
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden"),
    f"-Wl,-soname,{LIBRARY_NAME}",
)
_LIBRARIES = ("-lm", "-lpthread")


def build_library(extra_flags: tuple[str, ...] = ()) -> Path:
    """Return the emulated library, compiled if this version of it is not in the cache yet.

    The cache is `$XDG_CACHE_HOME` or `~/.cache`, then `steppe/emulator/<hash of the sources>`.

    Args:
        extra_flags: Further compiler flags, such as `-fsanitize=address`.

    Raises:
        InstallError: There is no C compiler, it fails, or the cache cannot be written.
    """
    folder = _cache_folder() / _fingerprint(extra_flags)
    library = folder / LIBRARY_NAME
    if library.exists():
        return library
    compiler = _find_compiler()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            compiled = Path(scratch) / LIBRARY_NAME
            _compile(compiler, extra_flags, compiled)
            compiled.replace(library)
    except OSError as error:
        raise InstallError(f"cannot write the emulated GPU library to {folder}: {error}") from error
    return library


def _sources() -> list[Path]:
    return sorted(_SOURCE_FOLDER.glob("*.c"))


def _fingerprint(extra_flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256(" ".join((*_FLAGS, *extra_flags)).encode())
    for path in (*sorted(_SOURCE_FOLDER.glob("*.h")), *_sources()):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "steppe" / "emulator"


def _find_compiler() -> list[str]:
    """Return the command of the C compiler: `$CC`, or the first of cc, gcc and clang."""
    asked = shlex.split(os.environ.get("CC", ""))
    for name in (asked[0],) if asked else _COMPILERS:
        found = shutil.which(name)
        if found:
            return [found, *asked[1:]]
    wanted = f"CC={asked[0]}" if asked else ", ".join(_COMPILERS)
    raise InstallError(
        f"emulated GPUs need a C compiler: looked for {wanted}, found none; install gcc or set CC"
    )


def _compile(compiler: list[str], extra_flags: tuple[str, ...], target: Path) -> None:
    sources = [str(path) for path in _sources()]
    command = [*compiler, *_FLAGS, *extra_flags, "-o", str(target), *sources, *_LIBRARIES]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        complaint = result.stderr.strip().splitlines() or ["no message"]
        raise InstallError(
            f"{compiler[0]} could not compile the emulated GPU library: {complaint[0]}"
        )
