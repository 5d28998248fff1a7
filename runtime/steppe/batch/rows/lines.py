"""Lines of a file, each with its number; a line that is too long or torn says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from steppe.batch.rows.pieces import TornFileError, pieces
from steppe.batch.rows.record import Record, TornRecord

_BOM = b"\xef\xbb\xbf"

OnPiece = Callable[[int], None]
"""Called with the size of each piece that was read, bytes; what it raises ends the reading."""


def pass_on(_: int) -> None:
    """Do nothing: an `OnPiece` of a reader without limits."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file.

    Attributes:
        number: Its number, from 1.
        text: Its bytes, with its end; empty if there is a problem.
        problem: Why it cannot be read, or empty.
    """

    number: int
    text: bytes
    problem: str = ""


def lines(path: Path, most_bytes: int, on_piece: OnPiece = pass_on) -> Iterator[Line]:
    """Yield the lines of a file, decompressed, with at most `most_bytes` of one in memory.

    Args:
        path: The file.
        most_bytes: Longest line, bytes.
        on_piece: Called with the size of each decompressed piece, bytes.

    Raises:
        UsageError: The file cannot be read.
    """
    number, kept, length = 1, bytearray(), 0
    problem = ""
    source = pieces(path)
    while not problem:
        try:
            piece = next(source, b"")
        except TornFileError as error:
            problem = str(error)
            break
        if not piece:
            break
        on_piece(len(piece))
        for part in _parts(piece):
            length += len(part)
            if length <= most_bytes:
                kept += part
            if part.endswith(b"\n"):
                yield _line(number, kept, length, most_bytes)
                number, kept, length = number + 1, bytearray(), 0
    if problem:
        yield Line(number, b"", problem)
    elif length:
        yield _line(number, kept, length, most_bytes)


def json_records(
    path: Path, most_bytes: int, on_piece: OnPiece = pass_on
) -> Iterator[Record | TornRecord]:
    """Yield the records of a file with one JSON value a line; empty lines are none.

    Its arguments are those of `lines`.

    Raises:
        UsageError: The file cannot be read.
    """
    for line in lines(path, most_bytes, on_piece):
        place = f"line {line.number}"
        if line.problem:
            yield TornRecord(place, line.problem)
            continue
        text = line.text.strip()
        if not text:
            continue
        try:
            yield Record(place, orjson.loads(text))
        except orjson.JSONDecodeError as error:
            yield TornRecord(place, f"asked for JSON, found {_fault(line.text, error)}")


def _parts(piece: bytes) -> list[bytes]:
    """Split at line feeds only: a carriage return may stand in a text."""
    *whole, rest = piece.split(b"\n")
    return [*(part + b"\n" for part in whole), rest]


def _line(number: int, kept: bytearray, length: int, most_bytes: int) -> Line:
    if length > most_bytes:
        found = f"asked for lines of at most {most_bytes} bytes, found one of {length}"
        return Line(number, b"", found)
    text = bytes(kept)
    return Line(number, text.removeprefix(_BOM) if number == 1 else text)


def _fault(text: bytes, error: orjson.JSONDecodeError) -> str:
    if not text.endswith(b"\n"):
        return f"that the file ends in it: {error}"
    return str(error)
