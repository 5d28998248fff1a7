"""Records of Parquet and Arrow files, some hundred at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from steppe.batch.rows.record import Record, TornRecord
from steppe.errors import UsageError

_ROWS = 256
_BUFFER = 1 << 20
_DAMAGE = (OSError, pyarrow.ArrowException)


def parquet_records(path: Path, wanted: Collection[str] | None) -> Iterator[Record | TornRecord]:
    """Yield the rows of a Parquet file; a damaged row group is as many torn records.

    Args:
        path: The file.
        wanted: Columns to read, where the file has them; None for all.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        file = pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER)
    except _DAMAGE as error:
        raise UsageError(f"{path}: asked for Parquet, found: {_line(error)}") from error
    with file:
        columns = _columns(file.schema_arrow.names, wanted)
        row = 0
        for group in range(file.num_row_groups):
            end = row + file.metadata.row_group(group).num_rows
            try:
                batches = file.iter_batches(_ROWS, row_groups=[group], columns=columns)
                for batch in batches:
                    yield from _records(batch, row)
                    row += batch.num_rows
            except _DAMAGE as error:
                reason = f"asked for Parquet, found: {_line(error)}"
                yield from (TornRecord(f"row {place}", reason) for place in range(row, end))
            row = end


def arrow_records(path: Path, wanted: Collection[str] | None) -> Iterator[Record | TornRecord]:
    """Yield the rows of an Arrow file, stream or not, as Hugging Face `datasets` writes it.

    Args:
        path: The file.
        wanted: Columns to read, where the file has them; None for all.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        source = pyarrow.memory_map(str(path))
        batches = _batches(source)
        names = next(batches)
    except _DAMAGE as error:
        raise UsageError(f"{path}: asked for Arrow, found: {_line(error)}") from error
    columns = _columns(names, wanted)
    row = 0
    with source:
        try:
            for batch in batches:
                narrow = batch.select(columns)
                for begin in range(0, batch.num_rows, _ROWS):
                    yield from _records(narrow.slice(begin, _ROWS), row + begin)
                row += batch.num_rows
        except _DAMAGE as error:
            yield TornRecord(f"row {row}", f"asked for Arrow, found: {_line(error)}")


def _batches(source: Any) -> Iterator[Any]:
    """Yield the names of the columns, then the batches."""
    if source.read(6) == b"ARROW1":
        file = pyarrow.ipc.open_file(source)
        yield file.schema.names
        yield from (file.get_batch(number) for number in range(file.num_record_batches))
        return
    source.seek(0)
    stream = pyarrow.ipc.open_stream(source)
    yield stream.schema.names
    yield from stream


def _columns(names: list[str], wanted: Collection[str] | None) -> list[str]:
    return names if wanted is None else [name for name in names if name in wanted]


def _records(batch: Any, row: int) -> Iterator[Record]:
    for place, fields in enumerate(batch.to_pylist(), row):
        if isinstance(fields.get("body"), str):  # a batch line whose request is JSON
            fields["body"] = _json_or_text(fields["body"])
        yield Record(f"row {place}", fields)


def _json_or_text(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
