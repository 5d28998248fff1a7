from __future__ import annotations

import random
from pathlib import Path

import pyarrow
import pyarrow.parquet

from steppe.batch.row import BadRow, Row
from steppe.batch.rows.options import RowOptions
from steppe.batch.rows.read import open_json_rows

OPTIONS = RowOptions(endpoint="/v1/completions", model="m")
LINE = b'{"prompt": "a"}\n'


def read(path: Path, content: bytes) -> list[Row | BadRow]:
    path.write_bytes(content)
    return list(open_json_rows(path, OPTIONS))


def test_lines_are_read_and_packed_lines_too(tmp_path: Path) -> None:
    packed = pyarrow.compress(2 * LINE, codec="zstd", asbytes=True)
    for content in (2 * LINE, packed):
        rows = read(tmp_path / "in", content)
        assert [type(row) for row in rows] == [Row, Row]


def test_a_table_is_no_table_but_bad_rows(tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["a"] * 10}), table)
    rows = read(tmp_path / "in", table.read_bytes())
    assert rows
    assert {type(row) for row in rows} == {BadRow}


def test_damaged_content_ends_in_bad_rows_whatever_it_is(tmp_path: Path) -> None:
    rng = random.Random(1)
    heads = (b"PAR1", b"ARROW1\0\0", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"[", b"\xff\xfe")
    for head in heads:
        for length in (0, 10, 1000):
            rows = read(tmp_path / "in", head + rng.randbytes(length))
            assert {type(row) for row in rows} <= {BadRow}
