"""Results on disk: JSON lines that grow while a sweep runs, so that it can be resumed.

`results.jsonl` holds one line of kind `run` for each start (provenance, rest watts, plan), and one
of kind `point` for each measured point, keyed by its setting. A line that was cut short by a
crash is dropped.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from steppe.errors import UsageError
from steppe.measure.provenance import Provenance
from steppe.measure.sweep.result import PointResult, RestWatts
from steppe.measure.sweep.summary import window_rows

RESULTS_FILE = "results.jsonl"
PARQUET_FILE = "results.parquet"
_POINT: TypeAdapter[PointResult] = TypeAdapter(PointResult)
_PROVENANCE, _REST = TypeAdapter(Provenance), TypeAdapter(RestWatts)


@dataclass(frozen=True, slots=True)
class RunHead:
    """One start of a sweep.

    Attributes:
        provenance: Provenance of the results.
        rest: Draw of the GPUs without work.
        plan: Settings of the measurement.
    """

    provenance: Provenance
    rest: RestWatts
    plan: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SweepResults:
    """A results file, read.

    Attributes:
        path: The file.
        head: The latest start.
        points: The measured points, in the order of their measurement; the latest of each key.
    """

    path: Path
    head: RunHead
    points: tuple[PointResult, ...]

    @property
    def sound(self) -> tuple[PointResult, ...]:
        """The points without a flag that forbids their use."""
        return tuple(point for point in self.points if point.is_sound)


class ResultsFile:
    """A results file that grows; it may hold earlier points."""

    def __init__(self, folder: Path) -> None:
        """Open or begin the file in a folder, which is made.

        Raises:
            UsageError: The folder cannot be made, or its file is of another kind.
        """
        self.path = folder / RESULTS_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: cannot write results: {error.strerror}") from error
        self.earlier = read_results(self.path) if self.path.is_file() else None

    @property
    def done(self) -> frozenset[str]:
        """Keys of the points that are measured and sound; unsound ones are measured again."""
        points = self.earlier.points if self.earlier else ()
        return frozenset(point.setting.key for point in points if point.is_sound)

    def begin(self, head: RunHead) -> None:
        """Write the line of this start.

        Raises:
            UsageError: The file holds results of another model, GPU, driver or engine.
        """
        if self.earlier is not None:
            before, now = self.earlier.head.provenance.subject, head.provenance.subject
            for old, new in zip(before, now, strict=True):
                if old != new:
                    raise UsageError(
                        f"{self.path}: asked to continue with {new}, found results of {old}; "
                        "choose another folder"
                    )
        self._append({"kind": "run", **dataclasses.asdict(head)})

    def add(self, point: PointResult) -> None:
        """Write a measured point; it is on disk when this returns."""
        self._append({"kind": "point", "key": point.setting.key, **dataclasses.asdict(point)})

    def _append(self, values: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            if file.tell() and not _ends_with_newline(self.path):
                file.write(b"\n")
            file.write(orjson.dumps(values) + b"\n")
            file.flush()
            os.fsync(file.fileno())


def read_results(path: Path) -> SweepResults:
    """Read a results file, or the one in a folder.

    Raises:
        UsageError: It is missing, holds no start, or a line of it is malformed.
    """
    file = path / RESULTS_FILE if path.is_dir() else path
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"{file}: asked for sweep results, found: {error.strerror}") from error
    head: RunHead | None = None
    points: dict[str, PointResult] = {}
    for number, line in enumerate(lines, start=1):
        values = _values(line)
        if values is None:
            continue
        try:
            if values["kind"] == "run":
                head = _head(values)
            else:
                points[values["key"]] = _point(values)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{file}: line {number}: not a line of a sweep: {_mistake(error)}"
            ) from error
    if head is None:
        raise UsageError(f"{file}: asked for sweep results, found no start of a sweep")
    return SweepResults(file, head, tuple(points.values()))


def write_parquet(results: SweepResults) -> None:
    """Write one row for each window beside the results, with its point's settings and estimates.

    The file's metadata hold provenance and rest watts as JSON under the key `steppe`.
    """
    from pyarrow import Table, parquet

    rows = [row for point in results.points for row in window_rows(point)]
    table = Table.from_pylist(rows)
    head = orjson.dumps(dataclasses.asdict(results.head))
    table = table.replace_schema_metadata({b"steppe": head})
    parquet.write_table(table, results.path.parent / PARQUET_FILE)


def _values(line: bytes) -> dict[str, Any] | None:
    """Return a line's mapping; None for an empty line or one that was cut short."""
    if not line.strip():
        return None
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return values if isinstance(values, dict) else None


def _mistake(error: Exception) -> str:
    """Return one line about what is wrong; pydantic has several."""
    match error:
        case ValidationError():
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            return f"{place}: {first['msg']}, found {str(first['input'])[:60]}"
        case KeyError():
            return f"{error.args[0]}: missing"
    return str(error)


def _head(values: dict[str, Any]) -> RunHead:
    provenance = _PROVENANCE.validate_python(values["provenance"])
    return RunHead(provenance, _REST.validate_python(values["rest"]), values["plan"])


def _point(values: dict[str, Any]) -> PointResult:
    bound_j = _bound_j(values["meter_error_j"])
    windows = [{**window, "error_j": _bound_j(window["error_j"])} for window in values["windows"]]
    return _POINT.validate_python({**values, "windows": windows, "meter_error_j": bound_j})


def _bound_j(value: float | None) -> float:
    """Return a bound of an error, J; JSON has null in place of infinity."""
    return math.inf if value is None else value


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
