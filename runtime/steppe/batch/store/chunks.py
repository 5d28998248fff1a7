"""Rows in chunks that fit memory and one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from steppe.batch.row import BadRow, Row

MOST_ROWS, MOST_BYTES = 2_000, 8 << 20
"""Rows and bytes of bodies in one chunk; a single larger row is a chunk of its own."""


def chunks(rows: Iterable[Row | BadRow]) -> Iterator[list[Row | BadRow]]:
    """Yield the rows in lists, in their order."""
    chunk: list[Row | BadRow] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row.body) if isinstance(row, Row) else 0
        if len(chunk) == MOST_ROWS or size >= MOST_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
