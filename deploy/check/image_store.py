"""Build images without Docker and without a registry, on a Debian root made on the spot."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.images.context import Context

SUITE = "trixie"
PYTHON = "3.13"
"""Minor version of the Python of that suite."""
PACKAGES = ("python3", "python3-venv")
DEBIAN_PACKAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "unshare": "util-linux"}
"""Programs that are needed, and the packages of Debian that have them."""
BUILD_S = 1800.0
"""Longest time for a build, s."""


class ImageError(Exception):
    """An image cannot be built, or does not work."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about how it starts.

    Attributes:
        user: User and group, such as 65532:65532; empty for root.
        environment: Environment variables.
        entrypoint: The program, and its first arguments.
        arguments: Further arguments, which a platform may replace.
        labels: Its labels.
        folder: Folder in which it starts.
    """

    user: str
    environment: Mapping[str, str]
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    labels: Mapping[str, str]
    folder: str


def missing_programs() -> list[str]:
    """Return what is not installed, with the Debian package that has it."""
    return [
        f"{program} is not installed: apt-get install {package}"
        for program, package in DEBIAN_PACKAGES.items()
        if shutil.which(program) is None
    ]


def debian_root(path: Path) -> Path:
    """Make the archive of a Debian root with Python, unless it is there.

    Raises:
        ImageError: mmdebstrap failed, as without a way to Debian's packages.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f"{os.getpid()}-{path.name}")
        include = f"--include={','.join(PACKAGES)}"
        _run(["mmdebstrap", "--quiet", "--variant=minbase", include, SUITE, str(made)])
        made.replace(path)
    return path


def storage_driver(folder: Path) -> str:
    """Return how buildah is to store layers in a folder: overlay, or vfs where overlay fails.

    vfs copies the whole root for each step, overlay none of it. A file system that is an overlay
    itself, as in most containers, can carry no other.
    """
    with tempfile.TemporaryDirectory(dir=folder) as tried:
        for name in ("lower", "upper", "work", "merged"):
            (Path(tried) / name).mkdir()
        options = ",".join(f"{name}dir={tried}/{name}" for name in ("lower", "upper", "work"))
        mount = f"mount -t overlay overlay -o {options} {tried}/merged"
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False
        )
    return "overlay" if done.returncode == 0 else "vfs"


@dataclass(frozen=True, slots=True)
class ImageStore:
    """A folder with images of its own, apart from those of the host.

    Attributes:
        folder: Where they are.
        driver: How layers are stored: see `storage_driver`.
    """

    folder: Path
    driver: str = "vfs"

    def base(self, root: Path) -> str:
        """Make an image of an archive with a whole root; return its name, by digest."""
        context = self.folder / "base"
        context.mkdir(parents=True)
        shutil.copyfile(root, context / root.name)
        (context / "Containerfile").write_text(f"FROM scratch\nADD {root.name} /\n")
        return self.named_by_digest(context, "localhost/steppe-debian")

    def named_by_digest(self, folder: Path, name: str) -> str:
        """Build an image that others are built on, from a folder; return its name, by digest."""
        self._build(folder, name, ())
        shutil.rmtree(folder)
        listed = json.loads(self._buildah("images", "--json", name))
        return f"{name}@{listed[0]['digest']}"

    def build(self, context: Context, base: str) -> str:
        """Build the image of a context; return its name.

        Raises:
            ImageError: A step failed.
        """
        arguments = ("--build-arg", f"BASE={base}", *context.build_arguments)
        self._build(context.folder, context.name, arguments)
        return context.name

    def config(self, image: str) -> ImageConfig:
        """Return what an image says about how it starts."""
        found = json.loads(self._buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
        pairs = (variable.partition("=") for variable in found.get("Env", []))
        return ImageConfig(
            user=found.get("User", ""),
            environment={name: value for name, _, value in pairs},
            entrypoint=tuple(found.get("Entrypoint") or ()),
            arguments=tuple(found.get("Cmd") or ()),
            labels=found.get("Labels") or {},
            folder=found.get("WorkingDir") or "/",
        )

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Return the root of a new container of an image; it ends with the block."""
        container = self._buildah("from", "--pull-never", image).strip()
        try:
            yield Path(self._buildah("mount", container).strip())
        finally:
            self._buildah("rm", container)

    def _build(self, folder: Path, name: str, arguments: Sequence[str]) -> None:
        # Without both limits, buildah asks for more than a chroot may have.
        files, processes = (
            resource.getrlimit(which)[1]
            for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
        )
        limits = (
            "--ulimit",
            f"nofile={files}:{files}",
            "--ulimit",
            f"nproc={processes}:{processes}",
        )
        options = ("--isolation", "chroot", "--pull=never", *limits, *arguments)
        file = str(folder / "Containerfile")
        self._buildah("build", *options, "--tag", name, "--file", file, str(folder))

    def _buildah(self, *arguments: str) -> str:
        where = ("--root", str(self.folder / "images"), "--runroot", str(self.folder / "run"))
        return _run(["buildah", *where, "--storage-driver", self.driver, *arguments])


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ImageError(
            f"{command[0]}: asked for an end within {BUILD_S:g} s, found none"
        ) from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise ImageError(f"{command[0]}: {' / '.join(lines[-4:])}")
    return done.stdout
