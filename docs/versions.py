"""Build the documentation of every release and of this tree: `make docs-versions`.

A release is a git tag such as `v0.2.0`. Each is built from its own files, with its own settings,
into `docs/_build/versions/0.2.0`, and kept there. The folder is a static site: its first page leads
to the newest release, and each page has a list of the versions, which needs no service. Without a
tag, or without git, the site has this tree alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
SITE = DOCS / "_build" / "versions"
SWITCH = DOCS / "version_switch"
TREE = "main"
"""The folder of what is not released."""
_DONE = ".built-from"


@dataclass(frozen=True, slots=True)
class Version:
    """One documentation of the site.

    Attributes:
        folder: Its folder in the site, which is also its name.
        tag: The git tag it is built from; None for the tree on disk.
    """

    folder: str
    tag: str | None


def main(arguments: list[str]) -> None:
    """Build the site of a repository, by default of this one."""
    repository = Path(arguments[0]) if arguments else DOCS.parent
    site = Path(arguments[1]) if arguments else SITE
    build_site(repository, site)
    sys.stdout.write(f"{site / 'index.html'}\n")


def build_site(repository: Path, site: Path) -> None:
    """Build what is missing of a site, and its list of versions.

    Args:
        repository: The root of the repository, with a folder `docs`.
        site: The folder of the site. A release that lies there is not built again.

    Raises:
        subprocess.CalledProcessError: Sphinx could not build a version; its output says why.
    """
    versions = versions_of(repository)
    site.mkdir(parents=True, exist_ok=True)
    for version in versions:
        build(version, repository, site)
    for path in SWITCH.iterdir():
        shutil.copyfile(path, site / path.name)
    listed = [
        {"folder": version.folder, "released": bool(version.tag), "pages": pages(site, version)}
        for version in versions
    ]
    (site / "versions.js").write_text(f"window.steppeVersions = {json.dumps(listed)};\n")
    (site / "index.html").write_text(redirect(versions[0].folder))


def versions_of(repository: Path) -> list[Version]:
    """Return the releases of a repository that have documentation, newest first, then its tree."""
    found: list[tuple[tuple[int, ...], Version]] = []
    for tag in _git(repository, "tag", "--list", "v*").split():
        number = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", tag)
        if number and _git(repository, "ls-tree", "--name-only", tag, "docs/conf.py"):
            found.append((tuple(map(int, number.groups())), Version(tag[1:], tag)))
    return [version for _, version in sorted(found, reverse=True, key=lambda each: each[0])] + [
        Version(TREE, None)
    ]


def build(version: Version, repository: Path, site: Path) -> None:
    """Build one version into its folder of the site, unless that release lies there."""
    target = site / version.folder
    if version.tag is None:
        _sphinx(repository / "docs", target)
        return
    commit = _git(repository, "rev-parse", f"{version.tag}^{{commit}}").strip()
    done = target / _DONE
    if done.exists() and done.read_text() == commit:
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "tree.tar"
        _git(repository, "archive", f"--output={archive}", version.tag)
        with tarfile.open(archive) as tree:
            tree.extractall(folder, filter="data")
        _sphinx(Path(folder) / "docs", target)
    done.write_text(commit)


def _sphinx(source: Path, target: Path) -> None:
    """Build the pages of a folder, and give them the list of versions."""
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as doctrees:
        command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", doctrees]
        subprocess.run([*command, source, target], check=True)
    for path in target.rglob("*.html"):
        page = path.relative_to(target).as_posix()
        path.write_text(with_switch(path.read_text(), target.name, page))


def with_switch(html: str, folder: str, page: str) -> str:
    """Return a page that loads the list of versions.

    Args:
        html: The page as Sphinx wrote it.
        folder: The folder of its version.
        page: Its path below that folder.
    """
    up = "../" * (page.count("/") + 1)
    head = (
        f'<link rel="stylesheet" href="{up}switch.css">\n'
        f'<script defer src="{up}versions.js"></script>\n'
        f'<script defer src="{up}switch.js" data-folder="{folder}" data-page="{page}"></script>\n'
    )
    return html.replace("</head>", f"{head}</head>", 1)


def pages(site: Path, version: Version) -> list[str]:
    """Return the pages of a version that lies in the site."""
    root = site / version.folder
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.html"))


def redirect(folder: str) -> str:
    """Return a page that leads to the first page of a version."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="refresh" content="0; url={folder}/index.html">\n'
        "<title>Steppe</title>\n</head>\n"
        f'<body><a href="{folder}/index.html">The documentation of Steppe</a></body>\n</html>\n'
    )


def _git(repository: Path, *arguments: str) -> str:
    """Return what git says of a repository; nothing where there is none."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        return ""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
