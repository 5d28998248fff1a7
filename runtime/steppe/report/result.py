"""The result of a run as data frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steppe.frontier.file import FrontierSubject, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.report.record_folder import FRONTIER_FILE, Recorder
from steppe.report.records import ReplicaTick, RequestRecord, TickRecord
from steppe.report.summary import Summary

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class RunResult:
    """Everything that a run recorded.

    The columns have the names and units of the record files.

    Attributes:
        summary: What the run achieved, as in `summary.json`.
        frontier: The operating points of one replica that the controller chose from.
        warnings: What the user should know about the run, one line each.
        tick_records: What `record.jsonl` holds.
        request_records: What `requests.jsonl` holds.
        subject: Model and GPUs that the frontier is of.
    """

    summary: Summary
    frontier: Frontier = field(repr=False)
    warnings: tuple[str, ...]
    tick_records: tuple[TickRecord, ...] = field(repr=False)
    request_records: tuple[RequestRecord, ...] = field(repr=False)
    subject: FrontierSubject = field(repr=False)

    @cached_property
    def ticks(self) -> DataFrame:
        """One row a tick, without replicas and shortages; `battery_share`, `battery_w` if any."""
        return _frame((_tick_row(tick) for tick in self.tick_records), _TICK_COLUMNS)

    @cached_property
    def replicas(self) -> DataFrame:
        """One row a tick and replica; `t_s` is that of the tick."""
        rows = (
            {"t_s": tick.t_s, **asdict(replica)}
            for tick in self.tick_records
            for replica in tick.replicas
        )
        return _frame(rows, ["t_s", *(field.name for field in fields(ReplicaTick))])

    @cached_property
    def requests(self) -> DataFrame:
        """One row a request, in the order in which they ended."""
        rows = (asdict(request) for request in self.request_records)
        return _frame(rows, [field.name for field in fields(RequestRecord)])

    def save(self, folder: str | Path) -> None:
        """Write a record folder, as `steppe simulate --record` does.

        Args:
            folder: A new or empty folder.

        Raises:
            UsageError: The folder holds something, or cannot be written.
        """
        with Recorder(Path(folder)) as recorder:
            for tick in self.tick_records:
                recorder.tick(tick)
            for request in self.request_records:
                recorder.request(request)
            write = partial(write_frontier, self.frontier, subject=self.subject)
            recorder.add_file(FRONTIER_FILE, write)
            recorder.conclude(self.tick_records, self.summary)


_NESTED = ("battery", "replicas", "shortages")
_SCALARS = [field.name for field in fields(TickRecord) if field.name not in _NESTED]
_TICK_COLUMNS = [*_SCALARS, "battery_share", "battery_w"]


def _tick_row(tick: TickRecord) -> dict[str, Any]:
    battery = tick.battery
    return {
        **{name: getattr(tick, name) for name in _SCALARS},
        "battery_share": None if battery is None else battery.share,
        "battery_w": None if battery is None else battery.power_w,
    }


def _frame(rows: Iterable[dict[str, Any]], columns: list[str]) -> DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=columns)
