"""A file that takes what became of each request as soon as it has ended."""

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
    """Make a new file, or open a device or pipe; yields what writes a request's line in it.

    Each line is on disk at once and as a whole, so a client that is killed loses none of them.
    What cannot be written, as on a full disk, is left out, and the load goes on. A file without
    a line is not left behind.

    Raises:
        UsageError: The file is there already or cannot be made; in the end: lines are missing.
    """
    rows = _Rows(path)
    try:
        yield rows.write
    finally:
        rows.close()
    if rows.lost:
        raise UsageError(f"{path}: cannot write {rows.lost} of the lines: {rows.reason}")


class _Rows:
    """The open file, what it could not take, and why not."""

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
