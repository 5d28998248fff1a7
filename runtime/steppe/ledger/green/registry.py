"""Certificates as a registry hands them out: a table (CSV), a JSON list, or a JSON object a line.

Each row has `id, form, owner, producer, zone, source, wh, from, to`; the times are the whole hours
(UTC) in which it may be used, such as `2026-11-03T14:00:00Z`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from steppe.errors import UsageError
from steppe.ledger.green.certificates import Certificate, certificate_of
from steppe.ledger.statements.month import EPOCH

COLUMNS = ("id", "form", "owner", "producer", "zone", "source", "wh", "from", "to")
_HOUR_S = 3600


def certificates_of(text: str) -> list[Certificate]:
    """Return the certificates of a registry's file.

    Raises:
        UsageError: A row is no certificate; the line says which one.
    """
    first = text.lstrip()[:1]
    if first == "[":
        rows = _json(text, "file")
        found = list(enumerate(rows, 1))
    elif first == "{":
        lines = text.splitlines()
        found = [(n, _json(line, f"line {n}")) for n, line in enumerate(lines, 1) if line.strip()]
    else:
        found = list(_table(text))
    return [_certificate(number, row) for number, row in found]


def _table(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text))
    names = tuple(reader.fieldnames or ())
    if set(names) != set(COLUMNS):
        found = ", ".join(names) or "nothing"
        raise UsageError(f"line 1: asked for the columns {', '.join(COLUMNS)}, found {found:.120}")
    for row in reader:
        yield reader.line_num, row | {"wh": _whole(row["wh"])}


def _certificate(number: int, row: Any) -> Certificate:
    where = f"certificate {number}"
    if not isinstance(row, dict) or row.keys() != set(COLUMNS):
        found = ", ".join(map(str, row)) if isinstance(row, dict) else repr(row)
        raise UsageError(f"{where}: asked for {', '.join(COLUMNS)}, found {found:.120}")
    values = {name: row[name] for name in COLUMNS if name not in ("from", "to")}
    values["from_hour"] = _hour(row["from"], f"{where}.from")
    values["to_hour"] = _hour(row["to"], f"{where}.to")
    try:
        return certificate_of(values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _hour(text: Any, where: str) -> int:
    """Return the hour of a time, hours since the Unix epoch.

    Raises:
        UsageError: It is no time, has no offset, or is no whole hour.
    """
    asked = f"{where}: asked for a whole hour such as 2026-11-03T14:00:00Z"
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{asked}, found {text!r:.60}") from error
    if time.tzinfo is None:
        raise UsageError(f"{asked}, found {text!r:.60}")
    since = time.astimezone(UTC) - EPOCH
    hours, rest = divmod(since.days * 24 * _HOUR_S + since.seconds, _HOUR_S)
    if rest or since.microseconds:
        raise UsageError(f"{asked}, found {text!r:.60}")
    return hours


def _whole(text: Any) -> Any:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdecimal() else text


def _json(text: str, where: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{where}: asked for JSON, found {error}") from error
