"""Text of others in HTML."""

from __future__ import annotations

from html import escape


def escaped(text: str) -> str:
    """Return text that stands for itself in HTML, in an element and in a quoted attribute."""
    return escape("".join(one if one.isprintable() else "\ufffd" for one in text))
