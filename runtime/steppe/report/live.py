"""A run as it goes: a view for a terminal, one line a tick for a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import orjson
from rich import box
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from steppe.power.battery import Charge
from steppe.report.grid_text import grid_text, refusal_text
from steppe.report.quantities import UNKNOWN, count, quantity, source_text, span
from steppe.report.records import GpuEvent, ReplicaTick, RequestRecord, TickRecord
from steppe.report.shortages import first_shortage, shortage_text

WIDEST = 100
MOST_REPLICAS = 8
BAR_WIDTH = 26
TREND_TICKS = 32
MOST_EVENTS = 2
RECENT_TICKS = 10
"""Ticks behind "tokens/J now"."""

_LEVELS = "▁▂▃▄▅▆▇█"
_STATE_STYLES = {
    "awake": "green",
    "asleep": "dim",
    "starting": "yellow",
    "draining": "yellow",
    "gone": "red",
    "quarantined": "red",
}


@dataclass(frozen=True, slots=True)
class RunSoFar:
    """What a run has achieved so far.

    Attributes:
        duration_s: How long the run will take, s; None if until it is stopped.
        energy_source: `counter`, `integrated`, `estimated` or `emulated`.
        boundary: What the joules enclose: `gpu`, `node` or `site`.
        energy_j: Energy so far, J.
        output_tokens: Output tokens so far.
        completed: Requests completed.
        failed: Requests that failed, were rejected or were shed.
    """

    duration_s: float | None
    energy_source: str
    boundary: str
    energy_j: float = 0.0
    output_tokens: int = 0
    completed: int = 0
    failed: int = 0

    def after_tick(self, record: TickRecord) -> RunSoFar:
        """Return this with the energy and tokens of one more tick."""
        return replace(
            self,
            energy_j=self.energy_j + record.energy_j,
            output_tokens=self.output_tokens + record.output_tokens,
        )

    def after_request(self, record: RequestRecord) -> RunSoFar:
        """Return this with one more request."""
        match record.outcome:
            case "completed":
                return replace(self, completed=self.completed + 1)
            case "cancelled" | "invalid":
                return self
            case _:
                return replace(self, failed=self.failed + 1)


def live_view(
    latest: TickRecord | None, history: Sequence[TickRecord], so_far: RunSoFar
) -> RenderableType:
    """Return the view of a run; up to eight replicas fit a terminal of 80 x 24.

    Args:
        latest: The last tick; None before the first.
        history: Recent ticks, the latest last; `TREND_TICKS` of them are shown.
        so_far: The run's totals.
    """
    head = _head(latest.t_s if latest else 0.0, so_far)
    if latest is None:
        return Constrain(Group(head, Text("waiting for the first tick", style="dim")), WIDEST)
    parts = (head, _power(latest, history), _replicas(latest), _output(latest, history, so_far))
    notes = (*_grid_lines(latest), *_power_line(latest), *_gpu_lines(latest, history))
    # A view of eight replicas leaves two lines of a terminal.
    room = 2 + MOST_REPLICAS - min(len(latest.replicas), MOST_REPLICAS)
    return Constrain(Group(*parts, *notes[:room]), WIDEST)


def plain_head(so_far: RunSoFar) -> str:
    """Return the line to print once before any `plain_line`: where the joules come from."""
    length = "until stopped" if so_far.duration_s is None else f"for {span(so_far.duration_s)}"
    source = source_text(so_far.energy_source)
    return f"running {length}; energy {source}, boundary {so_far.boundary}"


def plain_line(record: TickRecord) -> str:
    """Return one tick as one line of a log."""
    supply = f"{quantity(record.supply_w, 'W')}{' (stale)' if record.stale else ''}"
    parts = [
        span(record.t_s),
        f"supply {supply}",
        f"budget {quantity(record.budget_w, 'W')}",
        f"draw {quantity(record.draw_w, 'W')}",
        f"{record.output_tps:.0f} tokens/s",
        _per_joule(record.output_tokens, record.energy_j),
        f"awake {len(record.awake)}/{len(record.replicas)}",
        f"running {record.running}",
        f"waiting {record.waiting}",
    ]
    if record.battery is not None:
        parts.insert(2, battery_text(record.battery))
    grid = () if record.grid is None else (grid_text(record), refusal_text(record.grid))
    parts += [text for text in (*grid, power_text(record)) if text is not None]
    return "  ".join([*parts, *map(event_text, record.gpu_events)])


def json_line(record: TickRecord, energy_source: str) -> str:
    """Return one tick as one JSON object: the line of `record.jsonl` and the energy source."""
    tick = asdict(record) | {"energy_source": energy_source}
    return orjson.dumps(tick, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def event_text(event: GpuEvent) -> str:
    """Return what happened to a GPU, in one line."""
    return f"GPU {event.gpu[-6:]}: {'over: ' if event.is_over else ''}{event.text}"


def power_text(record: TickRecord) -> str | None:
    """Return what the budget is not enough for, now or in the forecast; None if it is enough."""
    if record.one_awake_w is not None:
        margin = " and the safety margin" if record.budget_w >= record.one_awake_w else ""
        return (
            f"all replicas asleep: {quantity(record.budget_w, 'W')} available, one awake needs "
            f"{quantity(record.one_awake_w, 'W')}{margin}"
        )
    shortage = first_shortage(record.shortages)
    return None if shortage is None else shortage_text(shortage)


def plain_end(so_far: RunSoFar) -> str:
    """Return the line to end a run with that is not recorded."""
    return (
        f"served {count(so_far.completed)} requests, {count(so_far.failed)} failed: "
        f"{count(so_far.output_tokens)} tokens on {quantity(so_far.energy_j, 'J')}, "
        f"{_per_joule(so_far.output_tokens, so_far.energy_j)}; "
        f"energy {source_text(so_far.energy_source)}, boundary {so_far.boundary}"
    )


def battery_text(battery: Charge) -> str:
    """Return the state of a battery, such as `battery 53 % gives 1.20 kW`."""
    does = "idle"
    if battery.power_w:
        verb = "gives" if battery.power_w > 0 else "takes"
        does = f"{verb} {quantity(abs(battery.power_w), 'W')}"
    return f"battery {100 * battery.share:.0f} % {does}"


def trend(values: Sequence[float], largest: float, width: int) -> str:
    """Return the last `width` values as a line of blocks, `largest` being a full one."""
    top = len(_LEVELS) - 1
    if largest <= 0:
        return _LEVELS[0] * len(values[-width:])
    shares = (min(1.0, max(0.0, value / largest)) for value in values[-width:])
    return "".join(_LEVELS[round(share * top)] for share in shares)


def _head(elapsed_s: float, so_far: RunSoFar) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right")
    modelled = so_far.energy_source in {"emulated", "estimated", "modelled"}
    title = Text.assemble(
        ("steppe", "bold"),
        "  energy ",
        (source_text(so_far.energy_source), "bold yellow" if modelled else ""),
        (f", boundary {so_far.boundary}", ""),
    )
    if so_far.duration_s is None:
        line.add_row(title, span(elapsed_s))
        return line
    line.add_row(title, f"{span(elapsed_s)} of {span(so_far.duration_s)}")
    bar = Table.grid(expand=True)
    done_s = min(elapsed_s, so_far.duration_s)
    bar.add_row(
        ProgressBar(so_far.duration_s, done_s, complete_style="blue", finished_style="green")
    )
    return Group(line, bar)


def _power(latest: TickRecord, history: Sequence[TickRecord]) -> Panel:
    over_w = latest.draw_w - latest.budget_w
    draw_style = "red" if over_w > 0 else "blue"
    recent = history[-TREND_TICKS:]
    rows = (
        ("supply", "green", latest.supply_w, [tick.supply_w for tick in recent]),
        ("budget", "white", latest.budget_w, [tick.budget_w for tick in recent]),
        ("draw", draw_style, latest.draw_w, [tick.draw_w for tick in recent]),
    )
    largest_w = max(1.0, *(max(value_w, *past_w, 0.0) for _, _, value_w, past_w in rows))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=6)
    grid.add_column(width=BAR_WIDTH)
    grid.add_column(justify="right", width=8)
    grid.add_column(width=TREND_TICKS)
    for name, style, value_w, past_w in rows:
        bar = Bar(largest_w, 0, value_w, width=BAR_WIDTH, color=style)
        shape = Text(trend(past_w, largest_w, TREND_TICKS), style=style)
        grid.add_row(name, bar, Text(quantity(value_w, "W"), style=style), shape)
    note = f"over budget by {quantity(over_w, 'W')}"
    subtitle = note if over_w > 0 else f"headroom {quantity(latest.supply_w - latest.draw_w, 'W')}"
    if latest.stale:
        subtitle = f"supply stale, fallback  {subtitle}"
    if latest.battery is not None:
        subtitle = f"{battery_text(latest.battery)}  {subtitle}"
    return _panel(grid, "power", Text(subtitle, style="red" if over_w > 0 else "dim"))


def _replicas(latest: TickRecord) -> Panel:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    table.add_column("replica", ratio=1, no_wrap=True)
    table.add_column("state", width=11)
    for name in ("clock limit", "batch limit", "draw", "tokens/s"):
        table.add_column(name, justify="right", width=11)
    shown = latest.replicas
    if len(shown) > MOST_REPLICAS:
        shown = shown[: MOST_REPLICAS - 1]
    for replica in shown:
        table.add_row(*_replica_cells(replica))
    hidden = len(latest.replicas) - len(shown)
    if hidden:
        table.add_row(Text(f"and {hidden} more", style="dim"))
    return _panel(table, "replicas", _awake_text(latest))


def _replica_cells(replica: ReplicaTick) -> tuple[str | Text, ...]:
    style = _STATE_STYLES.get(replica.state, "")
    serving = replica.state in {"awake", "draining"}
    return (
        Text(replica.id, style="yellow" if replica.conditions else ""),
        Text(replica.state, style=style),
        f"{replica.clock_mhz} MHz",
        str(replica.batch_limit) if serving else UNKNOWN,
        quantity(replica.draw_w, "W"),
        f"{replica.output_tps:.0f}" if serving else UNKNOWN,
    )


def _awake_text(latest: TickRecord) -> Text:
    return Text(f"{len(latest.awake)} of {len(latest.replicas)} awake", style="dim")


def _output(latest: TickRecord, history: Sequence[TickRecord], so_far: RunSoFar) -> Panel:
    recent = history[-RECENT_TICKS:] or (latest,)
    tokens = sum(tick.output_tokens for tick in recent)
    now = _per_joule(tokens, sum(tick.energy_j for tick in recent))
    grid = Table.grid(expand=True, padding=(0, 1))
    for ratio in (4, 6, 4, 4):
        grid.add_column(ratio=ratio, no_wrap=True)
    grid.add_row(
        Text(f"{latest.output_tps:.0f} tokens/s", style="bold"),
        Text(f"{now} now", style="bold"),
        f"running {latest.running}",
        f"completed {count(so_far.completed)}",
    )
    grid.add_row(
        f"demand {latest.demand_tps:.0f}",
        f"{_per_joule(so_far.output_tokens, so_far.energy_j)} so far",
        f"waiting {latest.waiting}",
        Text(f"failed {count(so_far.failed)}", style="red" if so_far.failed else ""),
    )
    spent = f"{count(so_far.output_tokens)} tokens on {quantity(so_far.energy_j, 'J')}"
    return _panel(grid, "output", Text(spent, style="dim"))


def _grid_lines(latest: TickRecord) -> tuple[Text, ...]:
    """Return what the grid asks, and why the site cannot comply; none if it asks nothing."""
    text, grid = grid_text(latest), latest.grid
    if text is None or grid is None:
        return ()
    style = "red" if grid.complies is False else "yellow" if grid.is_coming else "cyan"
    texts = (text, refusal_text(grid))
    return tuple(
        Text(f" {each}", style=style, no_wrap=True, overflow="ellipsis")
        for each in texts
        if each is not None
    )


def _power_line(latest: TickRecord) -> tuple[Text, ...]:
    """Return the line about what the budget is not enough for; none if it is enough."""
    text = power_text(latest)
    if text is None:
        return ()
    is_here = latest.one_awake_w is not None or any(s.is_here for s in latest.shortages)
    return (Text(f" {text}", style="red" if is_here else "yellow"),)


def _gpu_lines(latest: TickRecord, history: Sequence[TickRecord]) -> tuple[Text, ...]:
    """Return what holds for GPUs, and what happened to them of late, the latest first."""
    hold = (f"{r.id}: {', '.join(r.conditions)}" for r in latest.replicas if r.conditions)
    holds = "; ".join(hold)
    lines = [(f" {holds}", "yellow")] if holds else []
    events = [event for tick in history[-TREND_TICKS:] for event in tick.gpu_events]
    for event in reversed(events[-MOST_EVENTS:]):
        lines.append((f" {event_text(event)}", "dim" if event.is_over else "yellow"))
    return tuple(
        Text(text, style=style, no_wrap=True, overflow="ellipsis") for text, style in lines
    )


def _panel(content: RenderableType, title: str, subtitle: Text) -> Panel:
    return Panel(
        content,
        title=Text(title, style="bold"),
        title_align="left",
        subtitle=subtitle,
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="bright_black",
    )


def _per_joule(tokens: int, energy_j: float) -> str:
    return f"{tokens / energy_j:.3g} tokens/J" if energy_j > 0 else f"{UNKNOWN} tokens/J"
