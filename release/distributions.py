"""Build the sdist and the wheel, three times in different surroundings, and compare the bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from release.commands import git, run
from release.finding import Finding, ReleaseError

OTHER_SURROUNDINGS: Mapping[str, str] = {
    "TZ": "Asia/Shanghai", "PYTHONHASHSEED": "7", "LC_ALL": "C",
}  # fmt: skip
"""The second build runs with these, at another place, with other dates and modes of files."""
OTHER_TIME_S = 1_000_000_000
"""Date of the files of the second build, s since 1970."""


@dataclass(frozen=True, slots=True)
class Distributions:
    """The files of a release.

    Attributes:
        root: Tree that they were built from.
        sdist: Archive of the sources.
        wheel: What is installed; built from the tree.
    """

    root: Path
    sdist: Path
    wheel: Path


def commit_time_s(root: Path) -> str:
    """Return the time of the last commit, s since 1970.

    Raises:
        ReleaseError: There is no git, or the tree is no repository.
    """
    return git(root, "log", "-1", "--format=%ct")


def build(root: Path, kind: str, out: Path, epoch_s: str, **environment: str) -> Path:
    """Build the `sdist` or the `wheel` of a tree into a folder, and return the file.

    Args:
        root: The tree, with a pyproject.toml of hatchling.
        kind: `sdist` or `wheel`.
        out: Folder for the file.
        epoch_s: SOURCE_DATE_EPOCH, s since 1970.
        environment: What differs from the environment of this process.

    Raises:
        ReleaseError: The build fails.
    """
    surroundings = {**os.environ, **environment, "SOURCE_DATE_EPOCH": epoch_s}
    run([sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out], root, surroundings)
    suffix = ".whl" if kind == "wheel" else ".tar.gz"
    found = [path for path in out.iterdir() if path.name.endswith(suffix)]
    if len(found) != 1:
        raise ReleaseError(f"asked hatchling for one {kind}, found {len(found)} in {out}")
    return found[0]


def build_all(root: Path, out: Path) -> Distributions:
    """Build the sdist and the wheel of a tree into an empty folder.

    Raises:
        ReleaseError: A build fails, or the tree is no repository.
    """
    epoch_s = commit_time_s(root)
    out.mkdir(parents=True, exist_ok=True)
    return Distributions(
        root, build(root, "sdist", out, epoch_s), build(root, "wheel", out, epoch_s)
    )


def check(built: Distributions, scratch: Path) -> Finding:
    """Build again from the tracked files alone, then a wheel from the sdist; compare.

    Raises:
        ReleaseError: A build fails.
    """
    epoch_s = commit_time_s(built.root)
    copy = scratch / "elsewhere" / "tree"
    copy_tracked_files(built.root, copy)
    again = [scratch / name for name in ("again-sdist", "again-wheel", "from-sdist")]
    for folder in again:
        folder.mkdir(parents=True)
    sdist = build(copy, "sdist", again[0], epoch_s, **OTHER_SURROUNDINGS)
    wheel = build(copy, "wheel", again[1], epoch_s, **OTHER_SURROUNDINGS)
    unpacked = unpack(built.sdist, scratch / "unpacked")
    from_sdist = build(unpacked, "wheel", again[2], epoch_s)
    faults = [
        *differences("the sdist that is built a second time", built.sdist, sdist),
        *differences("the wheel that is built a second time", built.wheel, wheel),
        *differences("the wheel that is built from the sdist", built.wheel, from_sdist),
        *uncommitted(built.root),
    ]
    figures = " and ".join(
        f"{path.name} {sha256(path)[:16]}" for path in (built.sdist, built.wheel)
    )
    checked = f"2 builds of sdist and wheel, and the wheel of the sdist, byte for byte: {figures}"
    return Finding(checked, tuple(faults))


def copy_tracked_files(root: Path, copy: Path) -> None:
    """Copy what git tracks to another place, with another date and without group permissions."""
    for name in git(root, "ls-files", "-z").rstrip("\0").split("\0"):
        if not (root / name).is_file():
            continue  # deleted, not committed; told as such
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)
        target.chmod(0o700 if os.access(root / name, os.X_OK) else 0o600)
        os.utime(target, (OTHER_TIME_S, OTHER_TIME_S))


def uncommitted(root: Path) -> Iterator[str]:
    """Yield the files that differ from the last commit: its time is that of the build."""
    for line in git(root, "status", "--porcelain").splitlines():
        yield f"asked for a tree that is committed, found {line.strip()}"


def differences(what: str, one: Path, other: Path) -> Iterator[str]:
    """Yield how a second file differs from a first one, naming the members that do."""
    if one.read_bytes() == other.read_bytes():
        return
    ours, theirs = members(one), members(other)
    named = False
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            named = True
            yield f"asked for {what} to equal the first, found {_how(name, ours, theirs)}"
    if not named:
        yield (
            f"asked for {what} to equal the first, found the same members in another order, "
            "or with other dates or modes"
        )


def members(archive: Path) -> dict[str, bytes]:
    """Return the content of each file of a wheel or an sdist."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist() if name[-1] != "/"}
    found: dict[str, bytes] = {}
    with tarfile.open(archive) as sdist:
        for member in sdist.getmembers():
            content = sdist.extractfile(member)
            if content is not None:
                found[member.name.partition("/")[2]] = content.read()
    return found


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist, and return the root of its tree.

    Raises:
        ReleaseError: It has several.
    """
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    roots = sorted(folder.iterdir())
    if len(roots) != 1:
        raise ReleaseError(f"asked for one folder in {sdist.name}, found {len(roots)}")
    return roots[0]


def sha256(path: Path) -> str:
    """Return the checksum of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _how(name: str, ours: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> str:
    if name not in theirs:
        return f"{name} in the first only"
    if name not in ours:
        return f"{name} in it only"
    return f"{name} with other bytes"
