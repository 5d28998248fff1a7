"""The live table of the demo: each site's power, and the requests that it served and sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from steppe.report.quantities import UNKNOWN, span
from steppe.run.demo_sites.served import home_of

_BAR_WIDTH = 30


@dataclass(frozen=True, slots=True)
class SiteRow:
    """A site at one moment of a phase.

    Attributes:
        site: Its name.
        own_w: Own wind and sun, W; None while it does not answer.
        draw_w: Its draw, W.
        output_tps: Output tokens/s.
        waiting: Requests that wait.
        here: Requests of the phase that it served for its own customers.
        from_others: Those that it served for other sites.
        to_others: Those of its customers that other sites served.
    """

    site: str
    own_w: float | None
    draw_w: float
    output_tps: float
    waiting: int
    here: int = 0
    from_others: int = 0
    to_others: int = 0

    @property
    def surplus_w(self) -> float:
        """Own power that it does not draw, W; negative: what it takes from the grid."""
        return (self.own_w or 0.0) - self.draw_w


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above the table.

    Attributes:
        title: What goes on.
        hour: Hour of the day in the weather.
        elapsed_s: Time since the demo began, s.
        left_s: Expected time until its end, s.
    """

    title: str
    hour: float
    elapsed_s: float
    left_s: float

    @property
    def clock(self) -> str:
        """The time of the day."""
        minutes = min(24 * 60, int(self.hour * 60))
        return f"{minutes // 60:02}:{minutes % 60:02}"


@dataclass(slots=True)
class RequestTail:
    """Counts the requests of a record while it is written.

    Attributes:
        site: The site of the record.
        file: Its file of requests.
        counts: Requests since the last `reset`: `here`, `from_others`, `to_others`.
    """

    site: str
    file: Path
    counts: Counter[str] = field(default_factory=Counter)
    _read_bytes: int = 0

    def reset(self) -> None:
        """Count from here on."""
        self.update()
        self.counts.clear()

    def update(self) -> None:
        """Read what was written since the last call."""
        if not self.file.is_file():
            return
        with self.file.open("rb") as file:
            file.seek(self._read_bytes)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # not whole yet
                self._read_bytes += len(line)
                self._count(orjson.loads(line))

    def _count(self, request: Mapping[str, Any]) -> None:
        if request.get("site"):
            self.counts["to_others"] += 1
        elif home_of(request["tenant"], self.site) != self.site:
            self.counts["from_others"] += 1
        elif request["output_tokens"]:
            self.counts["here"] += 1


def row_of(site: str, status: Mapping[str, Any] | None, counts: Mapping[str, int]) -> SiteRow:
    """Return the row of a site.

    Args:
        site: Its name.
        status: What its gateway answers to `GET /steppe/v1/status`; None if it does not.
        counts: Its requests, as `RequestTail` counts them.
    """
    if status is None or "power" not in status:
        return SiteRow(site, None, 0.0, 0.0, 0, **counts)
    power, models = status["power"], status["models"].values()
    return SiteRow(
        site,
        own_w=max(0.0, (power["supply_w"] or 0.0) - (power["firm_w"] or 0.0)),
        draw_w=power["draw_w"] or 0.0,
        output_tps=sum(model.get("output_tps") or 0.0 for model in models),
        waiting=sum(model["waiting"] for model in models),
        **counts,
    )


def live_table(head: Head, rows: Sequence[SiteRow]) -> RenderableType:
    """Return the table for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("site")
    for name in (
        "wind, sun",
        "draw",
        "surplus",
        "served: own",
        "of others",
        "sent",
        "wait",
        "tok/s",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*_cells(row))
    whole_s = head.elapsed_s + head.left_s
    bar = ProgressBar(total=whole_s, completed=head.elapsed_s, width=_BAR_WIDTH)
    line = Table.grid(padding=(0, 2))
    line.add_row(Text(head.title, style="bold"), head.clock, bar, f"{span(head.left_s)} left")
    return Group(line, table)


def plain_line(head: Head, rows: Sequence[SiteRow]) -> str:
    """Return the table in one line, for a log."""
    sites = "; ".join(
        f"{row.site} {row.surplus_w:+.0f} W, {row.here} own, {row.from_others} of others, "
        f"{row.to_others} sent, {row.output_tps:.0f} tok/s"
        for row in rows
        if row.own_w is not None
    )
    return f"{head.title} {head.clock}: {sites} ({span(head.left_s)} left)"


def start_view(elapsed_s: float, left_s: float, lines: Mapping[str, str]) -> RenderableType:
    """Return what is shown while the sites start: the last line that each has printed."""
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("starting", style="bold"), f"{span(elapsed_s)}, about {span(left_s)} left")
    for site, line in lines.items():
        table.add_row(site, Text(line, style="bright_black", no_wrap=True, overflow="ellipsis"))
    return table


def _cells(row: SiteRow) -> list[str | Text]:
    if row.own_w is None:
        return [row.site, *[UNKNOWN] * 8]
    colour = "green" if row.surplus_w > 0 else "yellow"
    return [
        row.site,
        f"{row.own_w:.0f} W",
        f"{row.draw_w:.0f} W",
        Text(f"{row.surplus_w:+.0f} W", style=colour),
        str(row.here),
        str(row.from_others),
        str(row.to_others),
        str(row.waiting),
        f"{row.output_tps:.0f}",
    ]
