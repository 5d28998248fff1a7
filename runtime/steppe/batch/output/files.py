"""The output and the error file of a job, made from its store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from steppe.batch.job import ExportMark
from steppe.batch.output.appender import Appender
from steppe.batch.output.lines import output_line
from steppe.batch.row import StoredResult
from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError

_PART = 1_000
_PART_BYTES = 4 << 20
"""Results, and about how many bytes of them, in one part of a file."""
OUTPUT, ERRORS = "output", "errors"


class ResultSource(Protocol):
    """What of a store the files need."""

    def results(
        self, job_id: str, *, in_order: bool = False, after: int = 0
    ) -> Iterable[StoredResult]:
        """Yield results behind a position."""

    def export_mark(self, job_id: str, name: str) -> ExportMark:
        """Return how far a file has got."""

    def mark_exports(self, job_id: str, marks: dict[str, ExportMark]) -> None:
        """Record how far files have got."""


class OutputFiles:
    """Appends finished rows to the output file, failed ones to the error file.

    Each part is on disk before the store records how far the files are. After a crash, what is
    behind that is cut away and written again: each row is in one of the files exactly once.
    """

    def __init__(
        self,
        store: ResultSource,
        job_id: str,
        output: Path,
        errors: Path,
        *,
        in_order: bool = False,
    ) -> None:
        """Open the files where they were left; their names say how they are packed.

        If one of them was removed or cut since, or the order is another one now, both are written
        from their beginnings.

        Args:
            store: The store.
            job_id: The job.
            output: Path of the output, such as `out.jsonl` or `out.jsonl.zst`.
            errors: Path of the error file.
            in_order: Whether rows are written in the order of the input; else as they finish.

        Raises:
            DiskFullError: No space is left.
            UsageError: A file cannot be written.
        """
        if output == errors:
            raise UsageError(f"{output}: asked for an output and an error file, found one name")
        self._store, self._job_id, self._in_order = store, job_id, in_order
        paths = {OUTPUT: output, ERRORS: errors}
        self._marks = self._valid_marks(paths)
        for path in paths.values():
            with disk_errors(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
        self._files = {
            name: Appender(path, self._marks[name].offset) for name, path in paths.items()
        }
        for folder in {path.parent for path in paths.values()}:
            sync_folder(folder)

    @property
    def rows(self) -> int:
        """Rows that are in the files."""
        return sum(mark.rows for mark in self._marks.values())

    def advance(self, least_rows: int = 1) -> int:
        """Write what has finished since; return how many rows that were.

        Args:
            least_rows: Fewer rows wait for the next call: small parts are packed badly.

        Raises:
            DiskFullError: No space is left; the files end with the last whole part.
            UsageError: A file cannot be written, or the store not be read.
        """
        before = self.rows
        after = self._marks[OUTPUT].position
        results = self._store.results(self._job_id, in_order=self._in_order, after=after)
        for part in _parts(results, least_rows):
            self._write(part)
        return self.rows - before

    def close(self) -> None:
        """Close the files; rows that were not written are written by the next `OutputFiles`."""
        for file in self._files.values():
            file.close()

    def _valid_marks(self, paths: Mapping[str, Path]) -> dict[str, ExportMark]:
        """Return how far the files are; at their beginnings if they are not what they were."""
        marks = {
            name: self._store.export_mark(self._job_id, _key(name, self._in_order))
            for name in paths
        }
        if all(_size(paths[name]) >= mark.offset for name, mark in marks.items()):
            return marks
        anew = {name: ExportMark() for name in paths}
        self._store.mark_exports(self._job_id, self._keyed(anew))
        return anew

    def _write(self, part: list[StoredResult]) -> None:
        last = part[-1]
        position = last.result.number + 1 if self._in_order else last.sequence
        lines: dict[str, list[bytes]] = {OUTPUT: [], ERRORS: []}
        for stored in part:
            name = ERRORS if stored.result.failed else OUTPUT
            lines[name].append(output_line(stored.result, self._job_id))
        marks = {}
        try:
            for name, mark in self._marks.items():
                file, added = self._files[name], lines[name]
                offset = file.append(b"".join(added)) if added else file.offset
                marks[name] = ExportMark(position, offset, mark.rows + len(added))
            self._store.mark_exports(self._job_id, self._keyed(marks))
        except BaseException:
            for name, mark in self._marks.items():
                self._files[name].cut(mark.offset)
            raise
        self._marks = marks

    def _keyed(self, marks: Mapping[str, ExportMark]) -> dict[str, ExportMark]:
        """Return marks under the names of this order; those of the other order no longer hold."""
        other = {_key(name, not self._in_order): ExportMark() for name in marks}
        return other | {_key(name, self._in_order): mark for name, mark in marks.items()}


def _key(name: str, in_order: bool) -> str:
    """Return the name of a mark: a position means something else in the order of the input."""
    return f"{name}, in order" if in_order else name


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _parts(results: Iterable[StoredResult], least_rows: int) -> Iterator[list[StoredResult]]:
    """Yield whole parts, then what is left if it is enough."""
    part: list[StoredResult] = []
    size = 0
    for stored in results:
        part.append(stored)
        size += len(stored.result.body)
        if len(part) == _PART or size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if len(part) >= max(1, least_rows):
        yield part
