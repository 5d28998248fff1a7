"""CBOR in its deterministic encoding (RFC 8949, section 4.2.1), as far as COSE needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value under a tag.

    Attributes:
        tag: The tag.
        value: The value.
    """

    tag: int
    value: object


def encoded(value: object) -> bytes:
    """Return the encoding of integers, bytes, text, null, arrays, maps and tagged values."""
    match value:
        case int() if not isinstance(value, bool):
            coded = _head(0, value) if value >= 0 else _head(1, -1 - value)
        case bytes():
            coded = _head(2, len(value)) + value
        case str():
            coded = _head(3, len(value.encode())) + value.encode()
        case Sequence():
            coded = _head(4, len(value)) + b"".join(map(encoded, value))
        case Mapping():
            pairs = sorted((encoded(key), encoded(inner)) for key, inner in value.items())
            coded = _head(5, len(pairs)) + b"".join(key + inner for key, inner in pairs)
        case Tagged():
            coded = _head(6, value.tag) + encoded(value.value)
        case None:
            coded = b"\xf6"
        case _:
            raise AssertionError(f"COSE has no {type(value).__name__} here")
    return coded


def _head(major: int, argument: int) -> bytes:
    """Return a type and its argument in the fewest bytes."""
    if argument < 24:
        return bytes([major << 5 | argument])
    for place, size in enumerate((1, 2, 4, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | 24 + place]) + argument.to_bytes(size, "big")
    raise AssertionError("an argument has at most 64 bits")
