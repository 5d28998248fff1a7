"""A file of request results, written as each request ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import orjson

from steppe.errors import UsageError
from steppe.load.results import RequestResult
from steppe.outputs import is_stream


@contextmanager
def rows_file(path: Path) -> Generator[Callable[[RequestResult], None]]:
    """Create a file, or open a device or pipe; yields the function that writes one result to it.

    Each line is written at once and as a whole, so a client that is killed loses none. A line
    that cannot be written, for example on a full disk, is skipped, and the load goes on. An empty
    file is removed.

    Raises:
        UsageError: The file exists or cannot be created; at the end: lines could not be written.
    """
    rows = _Rows(path)
    try:
        yield rows.write
    finally:
        rows.close()
    if rows.lost:
        raise UsageError(f"{path}: cannot write {rows.lost} of the lines: {rows.reason}")


class _Rows:
    """The open file, the number of lines it could not take, and the reason."""

    def __init__(self, path: Path) -> None:
        self._path, self._end = path, 0
        self.lost, self.reason = 0, ""
        try:
            self._file = path.open("wb" if is_stream(path) else "xb", buffering=0)
        except OSError as error:
            raise UsageError(f"{path}: cannot write: {error.strerror}") from error

    def write(self, result: RequestResult) -> None:
        line = orjson.dumps(result.row(), option=orjson.OPT_APPEND_NEWLINE)
        try:
            left = memoryview(line)
            while left:
                left = left[self._file.write(left) :]
            self._end += len(line)
        except OSError as error:
            self.lost, self.reason = self.lost + 1, error.strerror or str(error)
            with contextlib.suppress(OSError):  # a device or pipe has no half line to take back
                self._file.truncate(self._end)
                self._file.seek(self._end)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
            if not self._end and not is_stream(self._path):
                self._path.unlink()
