"""Does a manifest have a secret in plain text? It would be in Git, in Helm's history, in etcd.

What is found is named by its place; the secret itself is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.check.manifests import Manifest, name_of

TEXTS: Mapping[str, re.Pattern[str]] = {
    "a password in a URL": re.compile(r"://[^/\s:@]*:[^/\s:@]+@"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a key of a tenant": re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"),
    "a token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{16,}"),
    "a key of AWS": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
}
"""What a secret looks like."""
SECRET_NAME = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)$")
"""Environment variables that have no plain value."""


def plain_secrets(found: Manifest) -> Iterator[str]:
    """Yield the secrets that an object has in plain text, each with its place."""
    if found["kind"] == "Secret":
        yield f"{name_of(found)}: values and manifests have no secrets, only their names"
        return
    for place, node in _nodes(found, ""):
        if isinstance(node, str):
            yield from (f"{name_of(found)}: {place}{where}" for where in _in_text(node))
        elif SECRET_NAME.search(str(node.get("name", ""))) and node.get("value"):
            yield f"{name_of(found)}: {place}: {node['name']} has a value: asked for a secretKeyRef"


def _in_text(text: str) -> Iterator[str]:
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        where = f", line {number}" if len(lines) > 1 else ""
        for what, pattern in TEXTS.items():
            if pattern.search(line):
                yield f"{where}: {what}"


def _nodes(node: Any, place: str) -> Iterator[tuple[str, str | Mapping[str, Any]]]:
    """Yield all mappings and texts in an object, each with its place."""
    if isinstance(node, str):
        yield place, node
    elif isinstance(node, Mapping):
        yield place, node
        for name, each in node.items():
            yield from _nodes(each, f"{place}.{name}" if place else str(name))
    elif isinstance(node, list):
        for i, each in enumerate(node):
            yield from _nodes(each, f"{place}[{i}]")
