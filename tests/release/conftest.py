from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "steppe"
version = "1.2.3"
requires-python = ">=3.11"
[tool.hatch.build.targets.wheel]
packages = ["runtime/steppe"]
"""
CHANGELOG = "# Changelog\n\n## Unreleased\n\n## [1.2.3] - 2026-01-01\n"
VERSION = """
def __getattr__(name):
    from importlib.metadata import version
    return version("steppe")
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small project in a repository, with one commit."""
    if shutil.which("git") is None:
        pytest.skip("apt install git")
    root = tmp_path / "tree"
    chart = "version: 1.2.3\nappVersion: 1.2.3\n"
    files = {
        "pyproject.toml": PYPROJECT,
        "CHANGELOG.md": CHANGELOG,
        "CITATION.cff": "version: 1.2.3\n",
        "runtime/steppe/__init__.py": VERSION,
        "deploy/chart/steppe/Chart.yaml": chart,
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(root, "init", "-q")
    commit(root)
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "all")
