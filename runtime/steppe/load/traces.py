"""Request traces as they are published: Azure, BurstGPT and Mooncake; and records of earlier runs.

Files are read unchanged, gzipped if their name ends with `.gz`. The first line determines the
format:

- Azure LLM inference traces (Azure/AzurePublicDataset, CC-BY 4.0), CSV with
  `TIMESTAMP,ContextTokens,GeneratedTokens`, times of day;
- BurstGPT (HPMLL/BurstGPT, CC-BY 4.0), CSV with `Timestamp`, `Request tokens` and
  `Response tokens` among its columns, times in s;
- Mooncake (kvcache-ai/Mooncake, Apache-2.0), JSON lines with `timestamp` in ms,
  `input_length` and `output_length`, and `hash_ids` of the blocks of 512 tokens of the prompt;
- `requests.jsonl` of a run of Steppe and the rows of `steppe load --requests`, JSON lines with
  `arrival_s`, `prompt_tokens` and `output_tokens`, in the order in which requests ended. One that
  did not end has the lengths that were asked for, or is left out.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from steppe.errors import TraceError
from steppe.load.arrivals import HASH_BLOCK_TOKENS, Arrival

_MOST_S = 1e12
"""Larger times, and those that are not finite, are refused, s."""
_MOST_TOKENS = 10_000_000
"""Longer prompts and outputs are refused; no model has them."""


@dataclass(frozen=True, slots=True)
class _CsvFormat:
    """The column names of a CSV trace, and the parser of its times, s."""

    time: str
    prompt: str
    output: str
    seconds: Callable[[str], float]


def _seconds_of_date(text: str) -> float:
    # A plain difference of naive times: the zone cancels, and daylight saving never enters.
    moment = datetime.fromisoformat(text).replace(tzinfo=None)
    return (moment - datetime(2000, 1, 1)).total_seconds()


_AZURE = _CsvFormat("TIMESTAMP", "ContextTokens", "GeneratedTokens", _seconds_of_date)
_BURSTGPT = _CsvFormat("Timestamp", "Request tokens", "Response tokens", float)


def read_trace(path: Path) -> tuple[Arrival, ...]:
    """Read a request trace in any of the known formats.

    Times are counted from the trace's first request. Rows with a length of zero are left out;
    BurstGPT marks failed requests so.

    Raises:
        TraceError: The file is missing, empty, of no known format, unsorted, or has a bad row.
    """
    text = _text_of(path)
    first = text.lstrip().partition("\n")[0].strip()
    if not first:
        raise TraceError(f"{path}: asked for a request trace, found an empty file")
    if first.startswith("{"):
        is_record = '"arrival_s"' in first
        rows = _record_rows(path, text) if is_record else _json_rows(path, text, _mooncake_arrival)
        return _checked(path, rows)
    columns = [column.strip() for column in first.split(",")]
    for known in (_AZURE, _BURSTGPT):
        if known.time in columns:
            return _checked(path, _csv_rows(path, text, known))
    raise TraceError(
        f"{path}: asked for Azure or BurstGPT CSV, Mooncake JSON lines or the requests of a run, "
        f"found {first[:80]!r}"
    )


def _text_of(path: Path) -> str:
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path, "rt", encoding="utf-8-sig") as file:
                return file.read()
        return path.read_text(encoding="utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: asked for a gzipped trace, found: {error}") from error
    except OSError as error:
        raise TraceError(f"{path}: asked for a request trace, found: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: asked for text, found bytes that are not UTF-8") from error


def _csv_rows(path: Path, text: str, known: _CsvFormat) -> Iterator[tuple[int, Arrival]]:
    """Yield line number and arrival of every row; times as the file gives them."""
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    try:
        found = [name.strip() for name in reader.fieldnames or ()]
        for column in (known.time, known.prompt, known.output):
            if column not in found:
                raise TraceError(f"{path}: asked for column {column}, found {', '.join(found)}")
        reader.fieldnames = found
        for row in reader:
            seconds = known.seconds(row[known.time])
            yield reader.line_num, Arrival(seconds, int(row[known.prompt]), int(row[known.output]))
    except (ValueError, TypeError, csv.Error) as error:
        raise TraceError(_bad_row(path, reader.reader.line_num, error)) from error


def _json_rows(
    path: Path, text: str, read: Callable[[dict[str, Any]], Arrival]
) -> Iterator[tuple[int, Arrival]]:
    """Yield line number and arrival of every JSON line; times in s.

    Args:
        path: The file, for messages.
        text: What it holds.
        read: Reads one line.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            arrival = read(orjson.loads(line))
        except KeyError as error:
            raise TraceError(f"{path}: line {number}: asked for key {error}, found none") from error
        except (ValueError, TypeError) as error:
            raise TraceError(_bad_row(path, number, error)) from error
        yield number, arrival


def _mooncake_arrival(row: dict[str, Any]) -> Arrival:
    seconds, prompt_tokens = float(row["timestamp"]) / 1000, _whole(row["input_length"])
    blocks = -(-prompt_tokens // HASH_BLOCK_TOKENS)
    hash_ids = tuple(map(_whole, row.get("hash_ids", ())))[: max(0, blocks)]
    return Arrival(seconds, prompt_tokens, _whole(row["output_length"]), hash_ids=hash_ids)


def _record_rows(path: Path, text: str) -> Iterator[tuple[int, Arrival]]:
    """Yield line number and arrival of every request of a run, by their arrival."""
    rows = _json_rows(path, text, _recorded_arrival)  # in the order in which they ended
    yield from sorted(rows, key=lambda row: row[1].at_s)


def _recorded_arrival(row: dict[str, Any]) -> Arrival:
    """Return the arrival of a request that a run recorded; of length 0 if its length is unknown."""
    return Arrival(
        at_s=float(row["arrival_s"]),
        prompt_tokens=_whole(row["prompt_tokens"] or row.get("asked_prompt_tokens", 0)),
        output_tokens=_whole(row["output_tokens"] or row.get("asked_output_tokens", 0)),
    )


def _whole(value: object) -> int:
    match value:
        case int():
            return value
        case float() if value.is_integer():
            return int(value)
        case _:
            raise ValueError(f"{value!r}, which is not a whole number")


def _bad_row(path: Path, number: int, error: Exception) -> str:
    problem = str(error)[:120]
    return f"{path}: line {number}: asked for a time and two token counts, found: {problem}"


def _checked(path: Path, rows: Iterator[tuple[int, Arrival]]) -> tuple[Arrival, ...]:
    """Check the rows, drop empty requests, and count time from the first request."""
    kept: list[Arrival] = []
    last_s = float("-inf")
    for number, arrival in rows:
        line = f"{path}: line {number}"
        if not abs(arrival.at_s) < _MOST_S:
            raise TraceError(
                f"{line}: asked for a time within {_MOST_S:g} s, found {arrival.at_s:g}"
            )
        if arrival.at_s < last_s:
            raise TraceError(
                f"{line}: asked for rising times, found a request "
                f"{last_s - arrival.at_s:g} s before the one above it"
            )
        if min(arrival.prompt_tokens, arrival.output_tokens) < 0:
            raise TraceError(f"{line}: asked for token counts, found a negative one")
        if max(arrival.prompt_tokens, arrival.output_tokens) > _MOST_TOKENS:
            raise TraceError(f"{line}: asked for up to {_MOST_TOKENS:,} tokens, found more")
        last_s = arrival.at_s
        if arrival.prompt_tokens and arrival.output_tokens:
            kept.append(arrival)
    if not kept:
        raise TraceError(f"{path}: asked for a request trace, found no request in it")
    zero_s = kept[0].at_s
    return tuple(replace(a, at_s=a.at_s - zero_s) for a in kept)
