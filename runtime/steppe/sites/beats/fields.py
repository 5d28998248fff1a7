"""Fields of a message of another site, checked for type, range and size.

A truth value is no number, infinity is none, and a text has no control characters. The first thing
that is wrong is one line that names the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steppe.errors import SteppeError

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Name of a site: one label of a host name, because a certificate has it as one."""

_NUMBERS = frozenset({int, float})


class SiteMessageError(SteppeError):
    """A message of another site is not as it should be."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of an object of a message; unknown ones are ignored.

    Attributes:
        values: The object.
        where: What messages call it.
    """

    values: Mapping[str, Any]
    where: str

    @classmethod
    def of(cls, value: Any, where: str) -> Fields:
        """Return the fields of a value.

        Raises:
            MessageError: It is no object.
        """
        if not isinstance(value, dict):
            raise SiteMessageError(f"{where}: asked for an object, found {value!r:.60}")
        return cls(value, where)

    def number(self, name: str, low: float, high: float) -> float:
        """Return a number of a range.

        Raises:
            MessageError: It is missing, none, or out of range.
        """
        value = self.values.get(name)
        return number_of(value, low, high, f"{self.where}.{name}")

    def number_or(self, name: str, low: float, high: float, default: float) -> float:
        """Return a number of a range, or a default if the field is missing.

        Raises:
            MessageError: It is none, or out of range.
        """
        return self.number(name, low, high) if name in self.values else default

    def integer(self, name: str, low: int, high: int) -> int:
        """Return an integer of a range.

        Raises:
            MessageError: It is missing, none, or out of range.
        """
        value = self.values.get(name)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name, f"an integer of {low} to {high}")
        return value

    def text(self, name: str, most: int, shape: re.Pattern[str] | None = None) -> str:
        """Return a text of 1 to `most` characters.

        Raises:
            MessageError: It is missing, none, too long, or not of the shape.
        """
        value = self.values.get(name)
        is_text = isinstance(value, str) and 1 <= len(value) <= most and value.isprintable()
        if not is_text or (shape is not None and not shape.fullmatch(str(value))):
            shown = "" if shape is None else f" like {shape.pattern}"
            raise self._wrong(name, f"a text of 1 to {most} characters{shown}")
        return str(value)

    def items(self, name: str, most: int) -> list[Any]:
        """Return a list of at most `most` items; an empty one if the field is missing.

        Raises:
            MessageError: It is none, or too long.
        """
        value = self.values.get(name, [])
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(name, f"a list of at most {most}")
        return value

    def numbers(self, name: str, most: int, low: float, high: float) -> tuple[float, ...]:
        """Return a list of numbers of a range; an empty one if the field is missing.

        Raises:
            MessageError: It is none, too long, or a number is out of range.
        """
        items = self.items(name, most)
        if are_numbers(items, low, high):
            return tuple(map(float, items))
        where = f"{self.where}.{name}"
        return tuple(number_of(item, low, high, f"{where}[{i}]") for i, item in enumerate(items))

    def integers(self, name: str, most: int, low: int, high: int) -> tuple[int, ...]:
        """Return a list of integers of a range; an empty one if the field is missing.

        Raises:
            MessageError: It is none, too long, or an integer is out of range.
        """
        items = self.items(name, most)
        for i, item in enumerate(items):
            if type(item) is not int or not low <= item <= high:
                asked = f"asked for an integer of {low} to {high}"
                raise SiteMessageError(f"{self.where}.{name}[{i}]: {asked}, found {item!r:.60}")
        return tuple(items)

    def _wrong(self, name: str, asked: str) -> SiteMessageError:
        found = repr(self.values[name])[:60] if name in self.values else "nothing"
        return SiteMessageError(f"{self.where}.{name}: asked for {asked}, found {found}")


def are_numbers(values: Sequence[Any], low: float, high: float) -> bool:
    """Return whether all values are numbers of a range: quicker than one after the other."""
    if not _NUMBERS.issuperset(map(type, values)):
        return False
    return not values or (low <= min(values) and max(values) <= high)


def flat_numbers(rows: Sequence[Any], width: int, low: float, high: float) -> bool:
    """Return whether all rows are lists of `width` numbers of a range."""
    flat = [each for row in rows if type(row) is list and len(row) == width for each in row]
    return len(flat) == width * len(rows) and are_numbers(flat, low, high)


def number_of(value: Any, low: float, high: float, where: str) -> float:
    """Return a value as a number of a range.

    Raises:
        MessageError: It is none, or out of range.
    """
    if type(value) not in (int, float) or not low <= value <= high:
        found = "nothing" if value is None else repr(value)[:60]
        raise SiteMessageError(f"{where}: asked for a number of {low:g} to {high:g}, found {found}")
    return float(value)
