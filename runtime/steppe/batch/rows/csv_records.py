"""Records of CSV and TSV files: the first line names the fields."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from steppe.batch.rows.build import PARAMETERS
from steppe.batch.rows.lines import OnPiece, lines, pass_on
from steppe.batch.rows.record import Record, TornRecord
from steppe.errors import UsageError

_JSON_FIELDS = PARAMETERS | {"messages", "body"}


class _Text:
    """The lines of a file as text; counts the bytes of the record that is read."""

    def __init__(self, path: Path, most_bytes: int, on_piece: OnPiece) -> None:
        self._lines = lines(path, most_bytes, on_piece)
        self._most_bytes, self._bytes = most_bytes, 0
        self.line = 0

    def begin_record(self) -> None:
        self._bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.line = line.number
        self._bytes += len(line.text)
        if line.problem:
            raise csv.Error(line.problem)
        if self._bytes > self._most_bytes:
            found = "found no end of it: a quote may be missing"
            raise csv.Error(f"asked for records of at most {self._most_bytes} bytes, {found}")
        return line.text.decode(errors="surrogateescape")


def csv_records(
    path: Path, delimiter: str, most_bytes: int, on_piece: OnPiece = pass_on
) -> Iterator[Record | TornRecord]:
    """Yield the records of a file; a field of JSON, such as `messages`, is read as JSON.

    Raises:
        UsageError: The file cannot be read, or its first line does not name the fields.
    """
    # The limit of a field holds for the whole process, and `_Text` bounds a record anyhow.
    csv.field_size_limit(max(csv.field_size_limit(), most_bytes))
    text = _Text(path, most_bytes, on_piece)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    names = _names(path, reader)
    while True:
        text.begin_record()
        first = text.line + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield TornRecord(_place(first, text.line), str(error))
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            continue
        place = _place(first, text.line)
        if values is None:
            return
        if not values:
            continue
        if len(values) == len(names):
            yield Record(place, dict(zip(names, map(_value, names, values), strict=True)))
        else:
            yield TornRecord(place, f"asked for {len(names)} fields, found {len(values)}")


def _names(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise UsageError(f"{path}: asked for names of fields in line 1: {error}") from error
    if not names or len(set(names)) < len(names):
        found = ", ".join(names)[:200] or "nothing"
        raise UsageError(f"{path}: asked for names of fields in line 1, each once, found {found}")
    return names


def _place(first: int, last: int) -> str:
    return f"line {first}" if last <= first else f"lines {first} to {last}"


def _value(name: str, text: str) -> Any:
    if name == "custom_id":
        return text or None
    if name not in _JSON_FIELDS:
        return text
    if not text:
        return None
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return text
