"""Make the context of an image: `python -m deploy.images.context steppe --python 3.12`.

A context is a folder `dist/images/NAME` with the Containerfile and all wheels that go into the
image, so that the build itself needs no package index. pip gets them from where it is configured to
look.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = Path(__file__).parent
NAMES = ("steppe", "steppe-vllm", "steppe-agent")
OF_AGENT = ("nvidia-ml-py", "prometheus-client", "pydantic", "pyyaml")
"""What the agent imports; a build of its image shows that nothing is missing."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
"""Wheels for the C libraries of Debian 11, Ubuntu 20.04, and later ones."""


class ContextError(Exception):
    """A context cannot be made."""


@dataclass(frozen=True, slots=True)
class Context:
    """A folder from which an image is built.

    Attributes:
        name: One of `NAMES`.
        folder: Where it is.
        version: Version of Steppe in it.
        revision: Commit of Steppe's wheel; `unknown` outside a repository.
    """

    name: str
    folder: Path
    version: str
    revision: str

    @property
    def build_arguments(self) -> tuple[str, ...]:
        """Options of docker, podman and buildah for this context, all but BASE."""
        values = (f"VERSION={self.version}", f"REVISION={self.revision}")
        return tuple(word for value in values for word in ("--build-arg", value))


def make_context(name: str, python: str, out: Path, kept: Path | None = None) -> Context:
    """Make the context of an image.

    Args:
        name: One of `NAMES`.
        python: Minor version of the Python in the base, such as 3.12.
        out: Folder that gets a folder of that name; what is there is replaced.
        kept: Folder with wheels of earlier contexts, which are enough without a package index; it
            gets those of this one. None asks the index each time.

    Raises:
        ContextError: There is no such image, or its wheels cannot be had.
    """
    if name not in NAMES:
        raise ContextError(f"asked for the image {name!r}, found {', '.join(NAMES)}")
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    own = build_wheel(wheels)
    requirements = requirements_of(name)
    if kept is None:
        collect(requirements, python, wheels)
    else:
        collect_kept(requirements, python, wheels, kept)
    (wheels / "requirements.txt").write_text(locked(wheels.glob("*.whl")))
    shutil.copy(IMAGES / name / "Containerfile", folder)
    for ignore_file in (".containerignore", ".dockerignore"):  # docker has its own name
        shutil.copy(IMAGES / ".containerignore", folder / ignore_file)
    return Context(name, folder, own.name.split("-")[1], revision())


def requirements_of(name: str, pyproject: Path = ROOT / "pyproject.toml") -> tuple[str, ...]:
    """Return what goes into an image beside Steppe itself, as in pyproject.toml."""
    project = tomllib.loads(pyproject.read_text())["project"]
    all_of_them = (*project["dependencies"], *project["optional-dependencies"]["fleet"])
    if name != "steppe-agent":
        return all_of_them
    return tuple(each for each in all_of_them if project_name(each) in OF_AGENT)


def project_name(requirement: str) -> str:
    """Return the normalised name of a requirement, or of a wheel's file."""
    return re.split(r"[^A-Za-z0-9._-]|-(?=\d)", requirement)[0].lower().replace("_", "-")


def locked(wheels: Iterable[Path]) -> str:
    """Return requirements that allow these wheels and no others, by version and SHA-256."""
    lines = []
    for wheel in sorted(wheels):
        version = wheel.name.split("-")[1]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{project_name(wheel.name)}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)


def build_wheel(folder: Path) -> Path:
    """Build the wheel of Steppe; the same commit gives the same bytes."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct") or "0"}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    _run(command, environment)
    (wheel,) = folder.glob("steppe-*.whl")
    return wheel


def collect(
    requirements: Sequence[str], python: str, folder: Path, sources: Sequence[str] = ()
) -> None:
    """Put the wheels of some requirements, and all that they require, into a folder.

    Args:
        requirements: What is asked for.
        python: Minor version of the Python that they are for.
        folder: Where they go.
        sources: Options of pip that say where it looks; none for where it is configured to look.
    """
    platforms = (word for name in PLATFORMS for word in ("--platform", name))
    options = ("--only-binary=:all:", "--python-version", python, *platforms, *sources)
    _run(
        [sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), *options, *requirements]
    )


def collect_kept(requirements: Sequence[str], python: str, folder: Path, kept: Path) -> None:
    """Put wheels into a folder as `collect` does, from the kept ones if they are all there.

    What the package index gives is kept, so that the next time needs none.
    """
    kept.mkdir(parents=True, exist_ok=True)
    try:
        collect(requirements, python, folder, ("--no-index", "--find-links", str(kept)))
    except ContextError:
        collect(requirements, python, folder)
        for wheel in folder.glob("*.whl"):
            if not wheel.name.startswith("steppe-"):
                shutil.copy(wheel, kept)


def revision() -> str:
    """Return the commit of the repository, with `+` if files differ from it."""
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}+" if commit and changed else commit or "unknown"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60.0
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise ContextError(f"{' '.join(command[1:4])} failed: {said[-1]}")


def main() -> int:
    """Make contexts, and print the commands that build the images from them."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m deploy.images.context")
    parser.add_argument("name", nargs="*", help=f"{', '.join(NAMES)}; all by default")
    parser.add_argument("--python", required=True, help="minor version in the base, such as 3.12")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "images")
    options = parser.parse_args()
    for name in options.name or NAMES:
        try:
            context = make_context(name, options.python, options.out)
        except ContextError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        words = ("build", "--build-arg", "BASE=IMAGE@sha256:DIGEST", *context.build_arguments)
        tag = f"{context.name}:{context.version}"
        where = f"-f {context.folder}/Containerfile {context.folder}"
        sys.stdout.write(f"docker {' '.join(words)} -t {tag} {where}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
