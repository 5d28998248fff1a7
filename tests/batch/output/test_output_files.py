from __future__ import annotations

import contextlib
import gzip
import resource
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.batch.job import ExportMark
from steppe.batch.output.files import OutputFiles
from steppe.batch.row import RowResult, StoredResult
from steppe.errors import DiskFullError, UsageError


class Source:
    """Results in the order in which rows finished, and the marks of the files."""

    def __init__(self, *results: RowResult) -> None:
        self.finished = list(results)
        self.marks: dict[str, ExportMark] = {}
        self.is_broken = False

    def results(
        self, _job_id: str, *, in_order: bool = False, after: int = 0
    ) -> Iterator[StoredResult]:
        if not in_order:
            for place, result in enumerate(self.finished[after:], after + 1):
                yield StoredResult(place, result)
            return
        by_number = {result.number: result for result in self.finished}
        while after in by_number:
            yield StoredResult(0, by_number[after])
            after += 1

    def export_mark(self, _job_id: str, name: str) -> ExportMark:
        return self.marks.get(name, ExportMark())

    def mark_exports(self, _job_id: str, marks: Mapping[str, ExportMark]) -> None:
        if self.is_broken:
            raise UsageError("the store is gone")
        self.marks |= marks


def answer(number: int, status: int = 200, size: int = 2) -> RowResult:
    return RowResult(number, f"id-{number}", status, body=b'"' + b"x" * (size - 2) + b'"')


def opened(source: Source, folder: Path, *, in_order: bool = False, end: str = "") -> OutputFiles:
    output, errors = folder / f"out.jsonl{end}", folder / f"errors.jsonl{end}"
    return OutputFiles(source, "batch_1", output, errors, in_order=in_order)


def ids(path: Path) -> list[str]:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst" and data:
        data = pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd").read()
    return [orjson.loads(line)["custom_id"] for line in data.splitlines()]


@pytest.mark.parametrize("end", ["", ".gz", ".zst"])
def test_rows_are_written_once_as_they_finish(tmp_path: Path, end: str) -> None:
    source = Source(answer(2), answer(0, status=400))
    files = opened(source, tmp_path, end=end)
    assert files.advance() == 2
    source.finished += [answer(1), answer(3)]
    assert files.advance() == 2
    assert files.advance() == 0
    files.close()
    again = opened(source, tmp_path, end=end)
    source.finished.append(answer(4, status=500))
    assert again.advance() == 1
    assert again.rows == 5
    again.close()
    assert ids(tmp_path / f"out.jsonl{end}") == ["id-2", "id-1", "id-3"]
    assert ids(tmp_path / f"errors.jsonl{end}") == ["id-0", "id-4"]


def test_what_was_not_recorded_is_cut_and_written_again(tmp_path: Path) -> None:
    source = Source(answer(0))
    files = opened(source, tmp_path)
    files.advance()
    files.close()
    with (tmp_path / "out.jsonl").open("ab") as file:
        file.write(b'{"custom_id": "id-1", "torn')
    source.finished.append(answer(1))
    files = opened(source, tmp_path)
    files.advance()
    files.close()
    assert ids(tmp_path / "out.jsonl") == ["id-0", "id-1"]


def test_a_store_that_fails_leaves_no_line_behind(tmp_path: Path) -> None:
    source = Source(answer(0))
    files = opened(source, tmp_path)
    source.is_broken = True
    with pytest.raises(UsageError, match="the store is gone"):
        files.advance()
    assert ids(tmp_path / "out.jsonl") == []
    source.is_broken = False
    assert files.advance() == 1
    files.close()
    assert ids(tmp_path / "out.jsonl") == ["id-0"]


def test_in_the_order_of_the_input_a_row_waits_for_those_before_it(tmp_path: Path) -> None:
    source = Source(answer(2), answer(0))
    files = opened(source, tmp_path, in_order=True)
    assert files.advance() == 1
    source.finished.append(answer(1, status=404))
    assert files.advance() == 2
    files.close()
    assert ids(tmp_path / "out.jsonl") == ["id-0", "id-2"]
    assert ids(tmp_path / "errors.jsonl") == ["id-1"]


def test_another_order_writes_the_files_anew(tmp_path: Path) -> None:
    source = Source(answer(2), answer(0), answer(1))
    for in_order, found in (
        (False, ["id-2", "id-0", "id-1"]),
        (True, ["id-0", "id-1", "id-2"]),
        (False, ["id-2", "id-0", "id-1"]),
    ):
        files = opened(source, tmp_path, in_order=in_order)
        files.advance()
        files.close()
        assert ids(tmp_path / "out.jsonl") == found


def test_files_that_were_removed_are_written_anew(tmp_path: Path) -> None:
    source = Source(answer(0), answer(1, status=400))
    files = opened(source, tmp_path)
    files.advance()
    files.close()
    (tmp_path / "errors.jsonl").unlink()
    files = opened(source, tmp_path)
    assert files.advance() == 2
    files.close()
    assert ids(tmp_path / "out.jsonl") == ["id-0"]
    assert ids(tmp_path / "errors.jsonl") == ["id-1"]


def test_few_rows_may_wait_for_more(tmp_path: Path) -> None:
    source = Source(answer(0))
    files = opened(source, tmp_path, end=".gz")
    assert files.advance(least_rows=2) == 0
    source.finished.append(answer(1))
    assert files.advance(least_rows=2) == 2
    files.close()


def test_long_answers_are_written_in_several_parts(tmp_path: Path) -> None:
    source = Source(*(answer(number, size=3 << 20) for number in range(3)))
    files = opened(source, tmp_path)
    assert files.advance(least_rows=2) == 2
    assert files.advance() == 1
    files.close()
    assert ids(tmp_path / "out.jsonl") == ["id-0", "id-1", "id-2"]


@given(st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_each_row_is_in_one_file_once_whatever_happens(data: st.DataObject) -> None:
    in_order, end = data.draw(st.booleans()), data.draw(st.sampled_from(["", ".gz", ".zst"]))
    numbers = data.draw(st.permutations(range(8)))
    steps = data.draw(st.lists(st.sampled_from("fffaabgr"), max_size=30))
    source, done = Source(), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = opened(source, folder, in_order=in_order, end=end)
        for step in steps:
            match step:
                case "f":  # a row finishes
                    status = 400 if done % 3 == 0 else 200
                    source.finished += [answer(number, status) for number in numbers[done:][:1]]
                    done = len(source.finished)
                case "a":
                    files.advance()
                case "b":  # the store fails
                    source.is_broken = True
                    with contextlib.suppress(UsageError):
                        files.advance()
                    source.is_broken = False
                case "g":  # a crash leaves a torn part behind
                    files.close()
                    with (folder / f"out.jsonl{end}").open("ab") as file:
                        file.write(b"torn")
                    files = opened(source, folder, in_order=in_order, end=end)
                case "r":  # a file is removed
                    files.close()
                    (folder / f"errors.jsonl{end}").unlink()
                    files = opened(source, folder, in_order=in_order, end=end)
        source.finished += [answer(number) for number in numbers[done:]]
        files.advance()
        files.close()
        found = [ids(folder / f"{file}.jsonl{end}") for file in ("out", "errors")]
        assert sorted([*found[0], *found[1]]) == [f"id-{number}" for number in range(8)]
        order = range(8) if in_order else numbers
        assert found[0] == [f"id-{number}" for number in order if f"id-{number}" in found[0]]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("in_order", [False, True])
def test_on_a_full_disk_the_files_end_with_the_last_whole_part(
    tmp_path: Path, in_order: bool
) -> None:
    source = Source(answer(0, size=500))
    files = opened(source, tmp_path, in_order=in_order)
    files.advance()
    source.finished += [answer(1, status=400), answer(2, size=50_000)]
    message = r"out.jsonl: asked to write, found File too large"
    with largest_file(10_000), pytest.raises(DiskFullError, match=message):
        files.advance()
    assert ids(tmp_path / "out.jsonl") == ["id-0"]
    assert files.advance() == 2
    files.close()
    assert ids(tmp_path / "out.jsonl") == ["id-0", "id-2"]
    assert ids(tmp_path / "errors.jsonl") == ["id-1"]


def test_two_files_need_two_names(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(UsageError, match="asked for an output and an error file, found one name"):
        OutputFiles(Source(), "batch_1", path, path)
