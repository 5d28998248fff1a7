from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from steppe.errors import UsageError
from steppe.load.arrivals import Arrival
from steppe.load.results import RequestResult
from steppe.load.rows import rows_file
from steppe.load.stream import Cancelled


def ended(index: int) -> RequestResult:
    return RequestResult(index, Arrival(0.0, 10, 5), 0.0, 0.0, 0, Cancelled(0.0, None))


def write_all(path: Path, count: int) -> None:
    with rows_file(path) as write:
        for index in range(count):
            write(ended(index))


def indices(path: Path) -> list[int]:
    return [json.loads(line)["index"] for line in path.read_text().splitlines()]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond a size; what does not fit fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_line_is_written_as_soon_as_its_request_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with rows_file(path) as write:
        write(ended(1))
        assert indices(path) == [1]
        write(ended(0))
        assert indices(path) == [1, 0]
    assert indices(path) == [1, 0]


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text("mine")
    with pytest.raises(UsageError, match="rows: cannot write: File exists"), rows_file(path):
        pass
    assert path.read_text() == "mine"


def test_a_load_that_fails_to_start_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no server"), rows_file(tmp_path / "rows"):
        raise UsageError("no server")
    assert list(tmp_path.iterdir()) == []


def test_lines_lost_on_a_full_device_are_reported_at_the_end() -> None:
    path = Path("/dev/full")
    with pytest.raises(UsageError, match=f"{path}: cannot write 2 of the lines: No space left"):
        write_all(path, 2)


def test_a_partly_written_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with (
        pytest.raises(UsageError, match="2 of the lines: File too large"),
        largest_file(int(2.5 * len(orjson.dumps(ended(0).row())))),
    ):
        write_all(path, 4)
    assert indices(path) == [0, 1]


def test_a_pipe_receives_lines_and_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with rows_file(path) as write:
        write(ended(7))
    assert json.loads(os.read(reader, 10_000))["index"] == 7
    os.close(reader)
    assert path.is_fifo()
