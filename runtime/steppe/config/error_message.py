"""One-line messages for errors in a run configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from steppe.config.section import Section

_UNKNOWN = ("extra_forbidden", "invalid_key")
_ASKED = {
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt:.16g}",
    "greater_than_equal": "a number of at least {ge:.16g}",
    "int_type": "a whole number",
    "less_than": "a number below {lt:.16g}",
    "less_than_equal": "a number of at most {le:.16g}",
    "literal_error": "{expected}",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "path_type": "a path",
    "string_too_short": "a text that is not empty",
    "string_type": "a text",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
}
"""What the configuration asks for, by type of pydantic's error."""
_SYNONYMS = {"path": "file", "file": "path", "type": "kind", "count": "replicas", "name": "gpu"}
"""Keys of other sections, and the key that they may mean."""
_TAG = "kind"
"""The key that selects one of several sections."""
_LONGEST = 60
"""Most characters shown of a value."""


def first_error(error: ValidationError, whole: type[Section]) -> str:
    """Return one line for the first error: its key, what was asked and what was found.

    An unknown key comes first: it may be the reason why another key is missing.

    Args:
        error: All errors.
        whole: The section that was validated.
    """
    errors = error.errors(include_url=False)
    first = min(errors, key=lambda each: each["type"] not in _UNKNOWN)
    keys, sections = _place(first["loc"], whole)
    found = first["input"]
    match first["type"]:
        case "extra_forbidden" | "invalid_key":
            keys, sections = _place(first["loc"][:-1], whole)
            known = [key for section in sections for key in section.model_fields]
            return unknown_key_error(keys, str(first["loc"][-1]), known)
        case "missing":
            return f"{_dotted(keys)}: missing"
        case "union_tag_not_found":
            return _no_tag(keys, found, sections)
        case "union_tag_invalid":
            tag = _shown(found[_TAG])
            return f"{_dotted([*keys, _TAG])}: asked for {_kinds(sections)}, found {tag}"
    alike = [each for each in errors if _place(each["loc"], whole)[0] == keys]
    return _value(keys, alike)


def _value(keys: Sequence[int | str], alike: Sequence[ErrorDetails]) -> str:
    """Return the message for one value; `alike` has an error for each type that it may have."""
    found, said = alike[0]["input"], alike[0]["msg"].removeprefix("Value error, ")
    wanted = [
        _ASKED[each["type"]].format(**each.get("ctx", {}))
        for each in alike
        if each["type"] in _ASKED
    ]
    head = f"{_dotted(keys)}: " if keys else ""
    if wanted:
        return f"{head}asked for {' or '.join(wanted)}, found {_shown(found)}"
    return f"{head}{said}" if isinstance(found, dict) else f"{head}{said}, found {_shown(found)}"


def _place(
    location: Sequence[int | str], whole: type[Section]
) -> tuple[list[int | str], list[type[Section]]]:
    """Return the keys of the file that lead to a location, and the sections allowed there.

    Pydantic also puts the member of a union into the location, which is no key of the file.
    """
    keys: list[int | str] = []
    sections = [whole]
    for part in location:
        if isinstance(part, int):
            keys.append(part)
            continue
        fields = [each.model_fields[part] for each in sections if part in each.model_fields]
        if fields:
            keys.append(part)
            sections = [each for field in fields for each in _sections_in(field.annotation)]
        else:
            sections = [each for each in sections if part in _tags(each)]
    return keys, sections


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)


def _tags(section: type[Section]) -> tuple[str, ...]:
    field = section.model_fields.get(_TAG)
    return () if field is None else get_args(field.annotation)


def _kinds(sections: Iterable[type[Section]]) -> str:
    *most, last = (repr(tag) for section in sections for tag in _tags(section))
    return f"{', '.join(most)} or {last}"


def _no_tag(
    keys: Sequence[int | str], found: Mapping[Any, Any], sections: Iterable[type[Section]]
) -> str:
    for key in get_close_matches(_TAG, map(str, found), 1):
        return unknown_key_error(keys, key, [_TAG])
    return f"{_dotted([*keys, _TAG])}: missing: asked for {_kinds(sections)}"


def unknown_key_error(keys: Sequence[int | str], key: str, known: Iterable[str]) -> str:
    """Return the message for an unknown key, with the known key that it may mean.

    Args:
        keys: The keys that lead to its section.
        key: The unknown key.
        known: The known keys of that section.
    """
    known = tuple(known)
    close = get_close_matches(key, known, 1)
    close = close or [word for word in (_SYNONYMS.get(key),) if word in known]
    near = "".join(f", did you mean {each}?" for each in close)
    return f"{_dotted([*keys, key])}: unknown key{near}"


def _dotted(keys: Iterable[int | str]) -> str:
    return ".".join(str(key) for key in keys)


def _shown(found: Any) -> str:
    match found:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case []:
            return "an empty list"
        case list():
            return "a list"
    text = repr(found)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
