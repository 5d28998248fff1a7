"""The messages on the page of troubleshooting are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "operate" / "troubleshooting.md").read_text()
MESSAGES = re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)
VALUE = "\0"
"""Stands for a value in a text of the code."""
LEAST_LETTERS = 10


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield every string of a module, with `VALUE` for each value that is put into it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else VALUE for p in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[.\d]*[a-z]", VALUE, node.value)


@cache
def all_texts() -> tuple[str, ...]:
    modules = (ROOT / "runtime" / "steppe").rglob("*.py")
    return tuple(text for module in modules for text in texts(ast.parse(module.read_text())))


def is_in_the_code(message: str) -> bool:
    """Return whether a string of the code has the words of a message, with values at its dots."""
    pattern = ".*".join(map(re.escape, message.split("...")))
    return any(re.search(pattern, text) for text in all_texts())


def test_the_page_has_the_messages_that_new_users_see() -> None:
    assert len(MESSAGES) >= 15
    assert len(set(MESSAGES)) == len(MESSAGES)
    assert all(len(re.findall("[a-zA-Z]", each)) >= LEAST_LETTERS for each in MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_of_the_code(message: str) -> None:
    assert is_in_the_code(message)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_has_a_remedy(message: str) -> None:
    _, _, rest = PAGE.partition(f"### `{message}`\n")
    text = rest.split("\n#")[0]
    assert len(text.split()) >= 15


def test_a_message_that_the_code_has_not_is_noticed() -> None:
    assert not is_in_the_code("gateway.port: ... is taken already")
    assert not is_in_the_code("asked for version ..., found ...: a magician has made it")
