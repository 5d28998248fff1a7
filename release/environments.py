"""Clean environments: no package and no file of this tree is in reach from inside."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from release.commands import outcome, run, tool

INSTALL_S = 1800.0
"""Longest time to resolve and install, s: a build of torch may have to come over a slow line."""
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Asked where pip's own sources have no CPU build of torch, as install/install.sh does."""
_OPTIONS: Mapping[str, str] = {
    "find-links": "--find-links", "index-url": "--default-index", "extra-index-url": "--index",
}  # fmt: skip
"""Settings of pip, and the options of uv that do the same."""


@dataclass(frozen=True, slots=True)
class CleanEnvironment:
    """A virtual environment, and a home folder that was empty.

    Attributes:
        folder: The virtual environment.
        home: Where its programs run, and their HOME.
    """

    folder: Path
    home: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def variables(self) -> dict[str, str]:
        """The variables of this process that say where packages are, and no more."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("PIP_") or name.endswith(("_CERT", "_CERT_FILE", "_CERT_DIR"))
        }
        path = f"{self.folder / 'bin'}{os.pathsep}{os.defpath}"
        return {**kept, "PATH": path, "HOME": str(self.home), "LANG": "C.UTF-8"}

    def install(self, *requirements: str | Path, index: str | None = None) -> None:
        """Install requirements; options of `uv pip install` may stand among them.

        Raises:
            ReleaseError: They cannot be had, or do not fit each other.
        """
        options = [*pip_sources(), *(("--index", index) if index else ())]
        command = [tool("uv"), "pip", "install", "--quiet", "--python", str(self.python)]
        run([*command, *options, *requirements], self.home, limit_s=INSTALL_S)

    def run(self, *command: str | Path, limit_s: float = 600.0) -> str:
        """Return what a program of the environment prints.

        Raises:
            ReleaseError: It fails.
        """
        program = self.folder / "bin" / str(command[0])
        return run([program, *command[1:]], self.home, self.variables, limit_s)

    @property
    def packages(self) -> int:
        """How many packages are installed."""
        return len(list(self.folder.glob("lib/python*/site-packages/*.dist-info")))


def clean_environment(
    scratch: Path, name: str, python: str = sys.executable, *, with_pip: bool = False
) -> CleanEnvironment:
    """Make an environment without packages.

    Args:
        scratch: Gets a folder with the environment and its home.
        name: Name of that folder.
        python: Interpreter, or a version that uv finds.
        with_pip: Whether it has pip, as those of `python -m venv` have.

    Raises:
        ReleaseError: There is no uv, or no such Python.
    """
    folder, home = scratch / name / "venv", scratch / name / "home"
    home.mkdir(parents=True)
    seed = ["--seed"] if with_pip else []
    run([tool("uv"), "venv", "--quiet", "--no-project", "--python", python, *seed, folder], home)
    return CleanEnvironment(folder, home)


def resolved(root: Path, python: str, resolution: str, extras: Sequence[str]) -> str:
    """Return the versions that pyproject.toml of a tree leads to, one a line.

    Args:
        root: The tree.
        python: Interpreter or version.
        resolution: `lowest-direct` or `highest`.
        extras: Extras that are wanted as well.

    Raises:
        ReleaseError: No versions fit each other.
    """
    options = [word for extra in extras for word in ("--extra", extra)]
    command = [tool("uv"), "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--resolution", resolution, "--python", python, *pip_sources(), *options]
    return run([*command, "pyproject.toml"], root, limit_s=INSTALL_S)


def newest_python(root: Path) -> str:
    """Return the newest Python in reach that pyproject.toml allows, this one at least."""
    minor = sys.version_info.minor
    for newer in range(minor + 3, minor, -1):
        command = [tool("uv"), "python", "find", "--no-project", "--no-python-downloads"]
        found = outcome([*command, f"3.{newer}"], root)
        if found.returncode == 0:
            return found.stdout.strip()
    return sys.executable


def pip_sources() -> list[str]:
    """Return where pip looks for packages, as options of uv, which reads no setting of pip."""
    said = outcome([sys.executable, "-m", "pip", "config", "list"], Path.cwd()).stdout
    settings = dict(_settings(said))
    options = ["--index-strategy", "unsafe-best-match"]
    for name, option in _OPTIONS.items():
        for value in settings.get(name, "").split():
            options += [option, value]
    return options


def _settings(listed: str) -> Iterator[tuple[str, str]]:
    """Yield name and value of each line of `pip config list`; what stands later is stronger.

    Its order is that of the names, so a variable of the environment (`:env:`) comes first.
    """
    for line in sorted(listed.splitlines(), reverse=True):
        place, is_set, value = line.partition("=")
        if is_set:
            yield place.rpartition(".")[2], " ".join(shlex.split(value))
