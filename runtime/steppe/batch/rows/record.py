"""One record of an input, before it is a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """A record that could be read.

    Attributes:
        place: Where it is, for people, such as `line 3`.
        fields: What it holds; of JSON lines any value.
    """

    place: str
    fields: Mapping[str, Any] | Any


@dataclass(frozen=True, slots=True)
class TornRecord:
    """A record that could not be read.

    Attributes:
        place: Where it is, for people, such as `line 3`.
        reason: What was asked and what was found, one line.
    """

    place: str
    reason: str
