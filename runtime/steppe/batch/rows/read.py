"""Reads the rows of an input of any known format, with little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from steppe.batch.row import BadRow, Row
from steppe.batch.rows.build import PARAMETERS, TEXTS, row_of
from steppe.batch.rows.csv_records import csv_records
from steppe.batch.rows.folder import dataset_files
from steppe.batch.rows.lines import OnPiece, json_records, pass_on
from steppe.batch.rows.options import RowOptions
from steppe.batch.rows.pieces import first_bytes
from steppe.batch.rows.record import Record, TornRecord
from steppe.batch.rows.template import compiled, variables
from steppe.errors import UsageError

_LINE_FIELDS = frozenset({"custom_id", "method", "url", "body"})


def open_rows(
    path: Path, options: RowOptions, on_piece: OnPiece = pass_on
) -> Iterator[Row | BadRow]:
    """Return the rows of an input one by one; what is no request is a bad row.

    JSON lines (OpenAI batch lines, or records with a prompt or messages), CSV and TSV, each also
    compressed by gzip or zstd; Parquet; Arrow; and folders of these, as Hugging Face `datasets`
    makes them. The content says which; only CSV and TSV are known by their names.

    Args:
        path: The input.
        options: How its records become requests.
        on_piece: Called with the size of each decompressed piece of lines, bytes.

    Raises:
        UsageError: The input cannot be read, or the template is none.
    """
    if not path.exists():
        raise UsageError(f"{path}: asked for an input, found no such file")
    if options.template:
        compiled(options.template)
    files = dataset_files(path, options.split) if path.is_dir() else [path]
    return _rows(files, options, lambda file: _records(file, options, on_piece))


def open_json_rows(
    path: Path, options: RowOptions, on_piece: OnPiece = pass_on
) -> Iterator[Row | BadRow]:
    """Return the rows of JSON lines one by one, whatever the content looks like.

    For files of clients: a damaged Arrow or Parquet file may end the process that reads it.

    Args:
        path: The input.
        options: How its records become requests.
        on_piece: Called with the size of each decompressed piece, bytes.

    Raises:
        UsageError: The input cannot be read, or the template is none.
    """
    if options.template:
        compiled(options.template)
    most = options.most_line_bytes
    return _rows([path], options, lambda file: json_records(file, most, on_piece))


def _rows(
    files: list[Path],
    options: RowOptions,
    records: Callable[[Path], Iterator[Record | TornRecord]],
) -> Iterator[Row | BadRow]:
    number = 0
    for file in files:
        of_file = f"{file.name} " if len(files) > 1 else ""
        for record in records(file):
            place = f"{of_file}{record.place}"
            if isinstance(record, Record):
                yield row_of(number, record.fields, options, place)
            else:
                yield BadRow(number, f"row-{number}", f"{place}: {record.reason}")
            number += 1


def _records(path: Path, options: RowOptions, on_piece: OnPiece) -> Iterator[Record | TornRecord]:
    magic = first_bytes(path, 6)
    suffix = Path(path.name.removesuffix(".gz").removesuffix(".zst")).suffix.lower()
    if magic.startswith(b"PAR1"):
        from steppe.batch.rows.tables import parquet_records

        return parquet_records(path, _wanted(options))
    if magic == b"ARROW1" or suffix == ".arrow":
        from steppe.batch.rows.tables import arrow_records

        return arrow_records(path, _wanted(options))
    if suffix in (".csv", ".tsv"):
        delimiter = "," if suffix == ".csv" else "\t"
        return csv_records(path, delimiter, options.most_line_bytes, on_piece)
    if magic.lstrip().startswith(b"["):
        raise UsageError(f"{path}: asked for one JSON object a line, found a list; see `jq -c .[]`")
    return json_records(path, options.most_line_bytes, on_piece)


def _wanted(options: RowOptions) -> frozenset[str]:
    """Return the columns that a table has to be read for."""
    wanted = PARAMETERS | _LINE_FIELDS | {options.id_column}
    if options.template:
        return wanted | variables(options.template)
    return wanted | ({options.column} if options.column else frozenset(TEXTS))
