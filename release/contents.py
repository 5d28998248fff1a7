"""What the wheel and the sdist hold, and what they must not hold."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from release.commands import git, outcome
from release.distributions import Distributions, members
from release.finding import Finding

PLACES: Mapping[str, str] = {
    "runtime/steppe/": "steppe/",
    "kernels/steppe_kernels/": "steppe_kernels/",
    "configs/": "steppe/configs/",
    "deploy/": "steppe/deploy/",
}
"""Where a folder of the tree is in the wheel."""
LEFT_OUT = ("deploy/check/*", "deploy/images/*", "deploy/*.py")
"""What only the repository needs: checks, images, and the modules that write dashboards."""
IN_WHEEL = (
    "steppe/py.typed", "steppe_kernels/py.typed",
    "steppe/configs/*.yaml", "steppe/configs/gpus/*.yaml", "steppe/configs/prices/*.csv",
    "steppe/emulator/*.c", "steppe/emulator/*.h",
    "steppe/page/templates/*.html", "steppe/page/static/*.js", "steppe/page/static/*.css",
    "steppe/page/vendor/*.LICENSE", "steppe/page/vendor/SHA256SUMS",
    "steppe/deploy/systemd/*.service",
    "steppe/deploy/prometheus/rules.yml", "steppe/deploy/grafana/*.json",
    "steppe/deploy/chart/steppe/Chart.yaml", "steppe/deploy/chart/steppe/values.schema.json",
    "steppe/deploy/chart/steppe/templates/*.yaml",
    "steppe-*.dist-info/licenses/LICENSE", "steppe-*.dist-info/licenses/NOTICE",
    "steppe-*.dist-info/entry_points.txt",
)  # fmt: skip
"""What users of an installed package look for; one file of each at least."""
IN_SDIST = (
    "LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md",
    "CITATION.cff",
    "Makefile", "pyproject.toml", "PKG-INFO", "install/install.sh", "release/check.py",
    "docs/index.md", "docs/conf.py", "tests/conftest.py", "deploy/check/__main__.py", "bench/*.py",
    "runtime/steppe/py.typed", "kernels/steppe_kernels/py.typed",
)  # fmt: skip
"""What a packager needs to build, test and document."""
NOT_IN_WHEEL = ("tests/*", "bench/*", "docs/*", "release/*", "*/tests/*.py", "*/test_*.py")
NOWHERE = (
    "*__pycache__*",
    "*.pyc",
    "*.so",
    "*.orig",
    "*.rej",
    "*~",
    "*.log",
    "*.env",
    "*.pem",
    "*.key",
)
"""What neither holds: caches, compiled code, leftovers of merges, records, keys."""
LARGEST_WHEEL_BYTES, LARGEST_SDIST_BYTES = 4_000_000, 8_000_000
"""A file that is larger holds something that does not belong into it."""
MACHINE_PATH = re.compile(
    r"(?<![\w.}])(?:/home/(?!steppe\b)[a-z][\w-]*|/root(?=/)|/Users/\w+|[A-Z]:\\Users)(?![\w{])"
)
"""Folders of people. `/home/steppe` is the folder of the images."""
PUBLIC = {"pypi.org", "files.pythonhosted.org", "download.pytorch.org", "localhost"}
"""Hosts that anybody may name."""
SHORTEST_NAME = 7
"""Names of hosts that are not longer may be words of any text."""
_URL = re.compile(r"https?://[^\s'\"]+")
_PLACE = re.compile(r"(?<=[\s'=])/[^\s'\",]+")
_COPIES = "steppe/deploy/chart/steppe/files/*"


def check(built: Distributions, scratch: Path) -> Finding:
    """Look for what is missing, what does not belong, and what names a machine."""
    wheel, sdist = members(built.wheel), members(built.sdist)
    private = private_words(built.root)
    faults = chain(
        missing("wheel", wheel, IN_WHEEL),
        missing("sdist", sdist, IN_SDIST),
        unwanted("wheel", wheel, (*NOT_IN_WHEEL, *NOWHERE)),
        unwanted("sdist", sdist, (*NOWHERE, "docs/_build/*", "runs/*", ".venv/*")),
        against_tree(built.root, wheel),
        equal_files(wheel),
        vendored(wheel),
        machine_words("wheel", wheel, private),
        machine_words("sdist", sdist, private),
        too_large(built.wheel, LARGEST_WHEEL_BYTES),
        too_large(built.sdist, LARGEST_SDIST_BYTES),
    )
    sizes = ", ".join(
        f"{len(held)} files in the {kind} of {path.stat().st_size / 1e6:.1f} MB"
        for kind, path, held in (("wheel", built.wheel, wheel), ("sdist", built.sdist, sdist))
    )
    return Finding(sizes, tuple(faults))


def missing(kind: str, held: Mapping[str, bytes], wanted: Sequence[str]) -> Iterator[str]:
    """Yield the patterns that no file of an archive fits."""
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in held):
            yield f"{kind}: asked for {pattern}, found none"


def unwanted(kind: str, held: Mapping[str, bytes], patterns: Sequence[str]) -> Iterator[str]:
    """Yield the files of an archive that have no place in it."""
    for name in held:
        fitting = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
        if fitting:
            yield f"{kind}: asked for nothing like {fitting[0]}, found {name}"


def against_tree(root: Path, held: Mapping[str, bytes]) -> Iterator[str]:
    """Yield how a wheel differs from the files that git tracks in the folders it comes from."""
    tracked = git(root, "ls-files", "-z", "--", *PLACES).split("\0")
    asked = {place for name in tracked if (place := _place_in_wheel(name))}
    found = {name for name in held if ".dist-info/" not in name}
    for name in sorted(asked - found):
        yield f"wheel: asked for {name} of the tree, found none"
    for name in sorted(found - asked):
        yield f"wheel: asked for files that git tracks only, found {name}"


def equal_files(held: Mapping[str, bytes]) -> Iterator[str]:
    """Yield files of a wheel that are there twice; but a chart holds copies."""
    names: dict[bytes, list[str]] = defaultdict(list)
    for name, content in held.items():
        is_empty = not content or PurePosixPath(name).name == "__init__.py"
        if not is_empty and not fnmatchcase(name, _COPIES):
            names[hashlib.sha256(content).digest()].append(name)
    for same in names.values():
        if len(same) > 1:
            yield f"wheel: asked for each file once, found {' and '.join(sorted(same))} equal"


def vendored(held: Mapping[str, bytes]) -> Iterator[str]:
    """Yield files of others that have no licence beside them, or not the checksum they should."""
    folder = "steppe/page/vendor/"
    lines = held.get(f"{folder}SHA256SUMS", b"").decode().splitlines()
    sums = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    for name in sorted(name.removeprefix(folder) for name in held if name.startswith(folder)):
        if name in {"README.txt", "SHA256SUMS"}:
            continue
        digest = hashlib.sha256(held[folder + name]).hexdigest()
        if sums.get(name) != digest:
            asked = sums.get(name, "in SHA256SUMS")
            yield f"wheel: asked for {name} with SHA-256 {asked}, found {digest}"
        licence = f"{name.partition('.')[0]}.LICENSE"
        if folder + licence not in held:
            yield f"wheel: asked for the licence {licence} of {name}, found none"


def machine_words(kind: str, held: Mapping[str, bytes], private: frozenset[str]) -> Iterator[str]:
    """Yield lines of text files that name a machine, a folder on one, or its package index."""
    for name, content in held.items():
        if b"\0" in content[:8192]:
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
            hit = MACHINE_PATH.search(line)
            words = [hit[0]] if hit else [word for word in private if word in line]
            if words:
                yield f"{kind}: asked for no machine's names, found {words[0]} at {name}:{number}"


def private_words(root: Path) -> frozenset[str]:
    """Return the names of this machine that must not be in a release."""
    lines = outcome([sys.executable, "-m", "pip", "config", "list"], root).stdout.splitlines()
    places = [word for line in lines if "find-links" in line for word in _PLACE.findall(line)]
    hosts = {urlsplit(url).hostname or "" for line in lines for url in _URL.findall(line)}
    folders = {place for place in (str(root), *places) if len(Path(place).parts) > 2}
    return frozenset(folders | {host for host in hosts - PUBLIC if "." in host} | _own_name())


def _own_name() -> set[str]:
    """Return the name of this host, unless it is a word such as `debian`."""
    name = socket.gethostname()
    return {name} if len(name) > SHORTEST_NAME and any(map(str.isdigit, name)) else set()


def too_large(path: Path, largest_bytes: int) -> Iterator[str]:
    """Yield a fault if a file is larger than it should be."""
    size = path.stat().st_size
    if size > largest_bytes:
        yield f"{path.name}: asked for {largest_bytes} bytes at most, found {size}"


def _place_in_wheel(name: str) -> str | None:
    if any(fnmatchcase(name, pattern) for pattern in LEFT_OUT):
        return None
    for folder, place in PLACES.items():
        if name.startswith(folder):
            return place + name.removeprefix(folder)
    return None
