from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.batch.row import BadRow, Row
from steppe.batch.rows.options import RowOptions
from steppe.batch.rows.read import open_rows
from steppe.errors import UsageError

OPTIONS = RowOptions(model="m")
QUESTIONS = RowOptions(model="m", column="question", id_column="id")
TEN = [{"prompt": f"text {number}"} for number in range(10)]


def zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def json_lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def read(path: Path, options: RowOptions = OPTIONS) -> list[Row | BadRow]:
    rows = list(open_rows(path, options))
    assert [row.number for row in rows] == list(range(len(rows)))
    return rows


def prompts(path: Path, options: RowOptions = OPTIONS) -> list[Any]:
    """Return the prompt of each row, or the reason why it is none."""
    found = []
    for row in read(path, options):
        body = orjson.loads(row.body) if isinstance(row, Row) else {}
        chat = body.get("messages", [{}])[-1].get("content")
        found.append(row.reason if isinstance(row, BadRow) else body.get("prompt", chat))
    return found


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_lines_may_be_compressed(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "in.jsonl"
    half = json_lines(TEN[:5])
    path.write_bytes(pack(half) + pack(json_lines(TEN[5:])))
    assert prompts(path) == [record["prompt"] for record in TEN]


def test_a_torn_line_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\n{"prompt\n\xff\n{"prompt": "b"}\n{"prom')
    first, torn, no_text, last, end = prompts(path)
    assert (first, last) == ("a", "b")
    assert torn.startswith("line 3: asked for JSON, found ")
    assert no_text.startswith("line 4: asked for JSON, found ")
    assert end.startswith("line 6: asked for JSON, found that the file ends in it")


def test_a_long_line_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(json_lines([TEN[0], {"prompt": "x" * 1_000_000}, TEN[1]]))
    options = RowOptions(model="m", most_line_bytes=500)
    first, long, last = prompts(path, options)
    assert (first, last) == ("text 0", "text 1")
    assert long == "line 2: asked for lines of at most 500 bytes, found one of 1000014"


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_compressed_file_that_ends_early_keeps_what_is_there(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(pack(json_lines(TEN[:5])) + pack(json_lines(TEN[5:]))[:-9])
    *whole, torn = prompts(path)
    assert whole[:5] == [record["prompt"] for record in TEN[:5]]
    assert "damaged or ends early" in torn


def test_csv_names_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    text = 'id,prompt,temperature,stop\na,"one, ""two""\nthree",0.5,"[""x""]"\nb,four,,\n'
    path.write_text(text)
    first, second = read(path, RowOptions(model="m", id_column="id"))
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert orjson.loads(first.body) == {
        "model": "m",
        "prompt": 'one, "two"\nthree',
        "temperature": 0.5,
        "stop": ["x"],
    }
    assert (first.custom_id, second.custom_id) == ("a", "b")
    assert "temperature" not in orjson.loads(second.body)


def test_a_bad_record_of_csv_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b'id,question\na,one,two\n\nb,"x"y\nc,\xff\nd,two\ne,"open\nf,three\n')
    fields, quote, encoding, good, still_open = prompts(path, QUESTIONS)
    assert fields == "line 2: asked for 2 fields, found 3"
    assert quote.startswith("line 4: ")
    assert "asked for what JSON can hold" in encoding
    assert good == "two"
    assert still_open.startswith("lines 7 to 8: ")


def test_an_open_quote_takes_no_more_than_one_record(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    rows = "".join(f"{number},text\n" for number in range(1000))
    path.write_text('id,question\nx,"open\n' + rows)
    options = RowOptions(model="m", column="question", id_column="id", most_line_bytes=200)
    bad, *others = prompts(path, options)
    assert "a quote may be missing" in bad
    assert len(others) > 900
    assert set(others) == {"text"}


def test_csv_needs_names(tmp_path: Path) -> None:
    path = tmp_path / "in.tsv"
    path.write_text("a\ta\n1\t2\n")
    with pytest.raises(UsageError, match="each once, found a, a"):
        read(path)


def table() -> pyarrow.Table:
    names = [f"q{number}" for number in range(600)]
    questions = [f"text {number}" for number in range(600)]
    return pyarrow.table({"id": names, "question": questions, "image": [b"x" * 100] * 600})


def test_parquet_is_read_by_column(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(table(), path, row_group_size=250)
    rows = read(path, QUESTIONS)
    assert [row.custom_id for row in rows] == [f"q{number}" for number in range(600)]
    template = RowOptions(model="m", template="<{{ question }}>")
    assert prompts(path, template)[599] == "<text 599>"


def test_a_missing_column_is_the_reason_of_each_row(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(table().slice(0, 2), path)
    assert "asked for column 'answer'" in prompts(path, RowOptions(model="m", column="answer"))[1]


def test_a_damaged_row_group_is_as_many_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(table(), path, row_group_size=200, use_dictionary=False)
    column = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    begin = column.data_page_offset
    data[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    found = prompts(path, QUESTIONS)
    assert found[:200] == [f"text {number}" for number in range(200)]
    assert found[400:] == [f"text {number}" for number in range(400, 600)]
    assert all(text.startswith("row ") for text in found[200:400])


def test_no_parquet_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    path.write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(UsageError, match=r"asked for Parquet, found: .*footer"):
        read(path)


def save_to_disk(folder: Path, rows: pyarrow.Table) -> None:
    """Write what `datasets.Dataset.save_to_disk` writes: Arrow streams, and which there are."""
    folder.mkdir(parents=True)
    names = [f"data-{part:05}-of-00002.arrow" for part in range(2)]
    for part, name in enumerate(names):
        with pyarrow.ipc.new_stream(folder / name, rows.schema) as stream:
            stream.write_table(rows.slice(300 * part, 300), max_chunksize=100)
    files = [{"filename": name} for name in names]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": "train"}))
    (folder / "dataset_info.json").write_text("{}")


def test_a_saved_dataset_is_read_in_its_order(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "set", table())
    assert prompts(tmp_path / "set", QUESTIONS) == [f"text {number}" for number in range(600)]


def test_a_dataset_with_splits_needs_the_name_of_one(tmp_path: Path) -> None:
    for split in ("train", "test"):
        save_to_disk(tmp_path / split, table())
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(UsageError, match="asked for the name of a split, found the splits train, "):
        read(tmp_path, QUESTIONS)
    options = RowOptions(model="m", column="question", split="test")
    assert len(prompts(tmp_path, options)) == 600


def test_a_folder_of_data_files_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for part in range(2):
        path = tmp_path / "data" / f"train-{part:05}-of-00002.parquet"
        pyarrow.parquet.write_table(table().slice(300 * part, 300), path)
    (tmp_path / "data" / "test.jsonl").write_bytes(json_lines(TEN))
    (tmp_path / "README.md").write_text("about it")
    options = RowOptions(model="m", column="question", split="train")
    assert prompts(tmp_path, options) == [f"text {number}" for number in range(600)]
    with pytest.raises(UsageError, match="of split dev, found none"):
        read(tmp_path, RowOptions(model="m", split="dev"))


def test_an_arrow_file_that_ends_early_keeps_what_is_there(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "set", table())
    path = tmp_path / "set" / "data-00000-of-00002.arrow"
    path.write_bytes(path.read_bytes()[:-3000])
    found = prompts(path, QUESTIONS)
    assert found[:200] == [f"text {number}" for number in range(200)]
    assert found[200].startswith("row 200: asked for Arrow")
    assert len(found) == 201


def test_an_input_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="asked for an input, found no such file"):
        open_rows(tmp_path / "none.jsonl", OPTIONS)


def test_a_list_of_json_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text('[{"prompt": "a"}]')
    with pytest.raises(UsageError, match="found a list; see `jq"):
        read(path)


PARTS = (
    *(b"\n", b"\r\n", b"x,y", b'"', b",", b"a", b"\xff", b"\0", b"\xef\xbb\xbf"),
    *(b'{"prompt": "a"}', b'{"prompt": "a"', b"[1]", b"null", b"1e999", b'"\\ud800"'),
    b'{"custom_id": "b", "body": {}}',
)


@given(st.lists(st.sampled_from(PARTS), max_size=20), st.booleans(), st.integers(0, 40))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_any_bytes_are_rows_or_bad_rows(parts: list[bytes], is_csv: bool, cut: int) -> None:
    data = b"a,b\n" * is_csv + b"".join(parts)
    if cut < 20:
        packed = gzip.compress(data)
        data = packed[: len(packed) - cut]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"in.{'csv' if is_csv else 'json'}"
        path.write_bytes(data)
        try:
            rows = read(path, RowOptions(model="m", most_line_bytes=40))
        except UsageError:
            rows = []  # the first line is no names of fields, or a list
        assert all(isinstance(row, Row) or "\n" not in row.reason for row in rows)
        assert all(row.custom_id for row in rows)
