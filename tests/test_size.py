"""No function and no file exceeds the limits of CONTRIBUTING, rule 8."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FUNCTION, LONGEST_FILE = 60, 500


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def lengths(source: str) -> Iterator[tuple[str, int]]:
    """Yield the name of each function, and its lines without its docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if ast.get_docstring(node) is not None else None
            docstring = 0 if first is None else (first.end_lineno or 0) - first.lineno + 1
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring


def test_a_docstring_does_not_count() -> None:
    source = 'def f():\n    """Two\n    lines."""\n    def g():\n        return 1\n    return g\n'
    assert list(lengths(source)) == [("f", 4), ("g", 2)]


# A Triton kernel has to be one function.
@pytest.mark.parametrize("folder", ["runtime", "bench"])
def test_no_function_is_too_long(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name} has {length} lines"
        for path in python_files(folder)
        for name, length in lengths(path.read_text())
        if length > LONGEST_FUNCTION
    ]
    assert found == []


@pytest.mark.parametrize("folder", ["runtime", "kernels", "bench"])
def test_no_file_is_too_long(folder: str) -> None:
    found = {
        str(path.relative_to(ROOT)): length
        for path in python_files(folder)
        if (length := len(path.read_text().splitlines())) > LONGEST_FILE
    }
    assert found == {}
