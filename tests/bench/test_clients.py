from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import client_calls
import clients
from steppe.tenants.key import make_key

GOOD: dict[str, Any] = {
    "whole_tokens": client_calls.TOKENS,
    "stream_tokens": client_calls.TOKENS,
    "stream_text": "a",
}
VLLM: dict[str, Any] = {
    "completed": client_calls.PROMPTS,
    "failed": 0,
    "output_tokens": client_calls.PROMPTS * client_calls.TOKENS,
}


@pytest.mark.parametrize(
    ("client", "found", "does_work"),
    [
        ("openai", GOOD, True),
        ("openai", GOOD | {"stream_tokens": None}, False),
        ("openai", {"status": 401, "error": "AuthenticationError"}, False),
        ("vllm", VLLM, True),
        ("vllm", VLLM | {"failed": 1}, False),
    ],
)
def test_a_client_works_if_all_its_tokens_arrive(
    client: str, found: dict[str, Any], does_work: bool
) -> None:
    assert clients.works(client, found) == does_work


@pytest.mark.parametrize(
    ("client", "found", "is_refused"),
    [
        ("openai", {"status": 401, "error": "AuthenticationError"}, True),
        ("openai", {"status": 500, "error": "InternalServerError"}, False),
        ("openai", GOOD, False),
        ("vllm", VLLM | {"completed": 0, "error": "Unauthorized"}, True),
        ("vllm", VLLM, False),
    ],
)
def test_a_wrong_key_is_refused_if_the_client_raises_its_error_of_a_401(
    client: str, found: dict[str, Any], is_refused: bool
) -> None:
    assert clients.is_refused(client, found) == is_refused


def test_a_key_in_a_log_is_found_by_its_secret_alone(tmp_path: Path) -> None:
    key = make_key("team", 0.0)
    site = clients.Site("http://x", key, tmp_path)
    (tmp_path / "access.log").write_text(f"{key.stored.prefix}\n")
    assert site.leaks(key.text, *clients.secrets_of(key)) == 0
    (tmp_path / "output.log").write_text(f"Bearer {clients.secrets_of(key)[0]}\n")
    assert site.leaks(key.text, *clients.secrets_of(key)) == 1


def test_the_calls_import_nothing_of_steppe() -> None:
    tree = ast.parse(Path(client_calls.__file__).read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not any(str(module).startswith("steppe") for module in modules)
