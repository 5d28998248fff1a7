"""The configuration reference, from the JSON Schema of the pydantic models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from generators.markdown import NOTICE, page, table
from steppe.config import RunConfig
from steppe.config.section import LARGEST

Schema = Mapping[str, Any]
_FORMATS = {"path": "path", "date-time": "date and time"}
_WORDS = {"boolean": "`true`, `false`", "object": "mapping", "null": "nothing"}

INTRODUCTION = """
One YAML file describes one run. Keys are strict: an unknown key, a key given twice, a bad value or
an impossible combination ends the command with one line that names the key, and exit code 2. Paths
inside the file are relative to the folder of the file.

Check a file with `steppe config validate FILE`. Units are in the names: `_s` seconds, `_w` watts,
`_j` joules, `_mhz` megahertz, `_rps` requests per second, `_tps` tokens per second, `_share` a
fraction from 0 to 1. A key without a default is required, unless its whole section is optional.
"""


def configuration_page() -> str:
    """Return the page."""
    schema = RunConfig.model_json_schema()
    definitions = schema["$defs"]
    sections = [
        block
        for name, value in schema["properties"].items()
        for block in _sections(name, value, definitions, required=name in schema["required"])
    ]
    return page(NOTICE, "# Configuration", INTRODUCTION, *sections)


def _sections(
    path: str, value: Schema, definitions: Mapping[str, Schema], *, required: bool
) -> Iterator[str]:
    """Yield the section at a key and the sections below it."""
    members = list(_members(value, definitions))
    depth = min(path.count(".") + 2, 4)
    for member in members:
        kind = member["properties"].get("kind", {}).get("const") if len(members) > 1 else None
        title = f"`{path}`" if kind is None else f"`{path}` with `kind: {kind}`"
        need = "Required." if required else ""
        note = need if len(members) == 1 else ""
        yield f"{'#' * depth} {title}"
        yield _paragraphs(member.get("description", "")) + ("\n\n" + note if note else "")
        yield _keys(member, definitions)
        for name, inner in member["properties"].items():
            yield from _sections(f"{path}.{name}", inner, definitions, required=False)


def _members(value: Schema, definitions: Mapping[str, Schema]) -> Iterator[Schema]:
    """Yield the sections that may stand at a key; none where plain values stand."""
    if "$ref" in value:
        target = definitions[value["$ref"].rpartition("/")[2]]
        if "properties" in target:
            yield target
    for union in ("anyOf", "oneOf"):
        for choice in value.get(union, ()):
            yield from _members(choice, definitions)
    if "items" in value:
        yield from _members(value["items"], definitions)


def _keys(section: Schema, definitions: Mapping[str, Schema]) -> str:
    required = section.get("required", ())
    rows = [
        (
            f"`{name}`",
            _type(value, definitions),
            "required" if name in required else _default(value, definitions),
            value.get("description", ""),
        )
        for name, value in section["properties"].items()
    ]
    return table(("key", "value", "default", "meaning"), rows)


def _type(value: Schema, definitions: Mapping[str, Schema]) -> str:
    """Return what may stand at a key, in words."""
    match value:
        case {"anyOf": choices} | {"oneOf": choices}:
            parts = [_type(choice, definitions) for choice in choices]
            words = " or ".join(dict.fromkeys(part for part in parts if part != "nothing"))
        case {"$ref": _}:
            words = "section"
        case {"const": constant}:
            words = f"`{constant}`"
        case {"enum": choices}:
            words = ", ".join(f"`{choice}`" for choice in choices)
        case {"type": "array", "items": items}:
            words = f"list of: {_type(items, definitions)}"
        case {"type": "integer"}:
            words = _number("whole number", value)
        case {"type": "number"}:
            words = _number("number", value)
        case {"type": "string"}:
            words = _FORMATS.get(value.get("format", ""), "text")
        case _:
            words = _WORDS.get(value.get("type", ""), "any")
    return words


def _number(kind: str, value: Schema) -> str:
    """Return a number's kind and range; the bound that all numbers have is left out."""
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    bounds = [
        f"{sign} {value[key]:.16g}"
        for key, sign in signs.items()
        if key in value and value[key] < LARGEST
    ]
    return f"{kind} {', '.join(bounds)}".strip()


def _default(value: Schema, definitions: Mapping[str, Schema]) -> str:
    default = value.get("default")
    if default is None or (isinstance(default, dict) and list(_members(value, definitions))):
        return "–"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _paragraphs(text: str) -> str:
    """Return the paragraphs of a docstring, each as one line."""
    parts: Sequence[str] = text.split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts)
