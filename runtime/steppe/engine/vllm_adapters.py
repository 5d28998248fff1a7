"""The LoRA adapters that vLLM's argument `lora_modules` names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def adapters(args: Mapping[str, Any]) -> dict[str, str]:
    """Return the path of each adapter by its name, the model name of its requests.

    Args:
        args: Arguments of vLLM; an adapter is `name=path` or an object with `name` and `path`.
    """
    given = {name.replace("-", "_"): value for name, value in args.items()}.get("lora_modules")
    several = given if isinstance(given, list | tuple) else [given]
    return dict(found for one in several if (found := _adapter(one)) is not None)


def read_value(value: object) -> object:
    """Return a value that may be JSON."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _adapter(given: object) -> tuple[str, str] | None:
    match read_value(given):
        case {"path": str(path), **rest}:
            return str(rest.get("name", path)), path
        case str(text) if "=" in text:
            name, _, path = text.partition("=")
            return name, path
        case _:
            return None
