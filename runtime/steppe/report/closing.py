"""What a terminal shows at the end of a run."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from steppe.control.shortage_forecast import WORDS
from steppe.report.grid_events import EventSum
from steppe.report.latency import Percentiles
from steppe.report.quantities import UNKNOWN, count, quantity, share, source_text, span
from steppe.report.record_folder import (
    FIGURE_FILE,
    LEDGER_FOLDER,
    RECORD_FILE,
    REQUESTS_FILE,
    SUMMARY_FILE,
)
from steppe.report.summary import Summary

WIDTH = 80


def summary_panel(summary: Summary, folder: Path) -> RenderableType:
    """Return the end of a run: energy, tracking, latency, requests and its record folder.

    Args:
        summary: What the run achieved.
        folder: Its record folder.
    """
    modelled = summary["energy_source"] in {"emulated", "estimated", "modelled"}
    title = Text.assemble(
        ("run finished", "bold"),
        ": energy ",
        (source_text(summary["energy_source"]), "bold yellow" if modelled else ""),
        f", boundary {summary['boundary']}",
    )
    parts = (_figures(summary), Rule(style="bright_black"), _latency(summary), _requests(summary))
    panel = Panel(
        Group(*parts),
        title=title,
        title_align="left",
        box=box.ROUNDED,
        border_style="bright_black",
        width=WIDTH,
    )
    has_ledger = any(run["folder"] == LEDGER_FOLDER for run in summary["ledger"])
    return Group(panel, _files(folder, has_ledger=has_ledger))


def _figures(summary: Summary) -> Table:
    tracking = summary["tracking"]
    per_joule = summary["output_tokens_per_joule"]
    score = tracking["pjm_score"]
    energy = (
        ("output tokens", count(summary["output_tokens"])),
        ("prompt tokens", count(summary["prompt_tokens"])),
        ("energy", quantity(summary["energy_j"], "J")),
        ("  meter error", f"±{quantity(summary['energy_error_j'], 'J')}"),
        ("  idle", quantity(summary["idle_energy_j"], "J")),
        ("  transitions", quantity(summary["transition_energy_j"], "J")),
        ("  unclaimed", quantity(summary["unclaimed_energy_j"], "J")),
        ("  not completed", quantity(summary["wasted_energy_j"], "J")),
        ("tokens per joule", UNKNOWN if per_joule is None else f"{per_joule:.3g}"),
        ("energy per token", quantity(summary["energy_per_output_token"], "J")),
    )
    budget = (
        ("duration", span(summary["duration_s"])),
        ("budget error", share(tracking["relative_mae"])),
        ("  at the ceiling", span(tracking["at_ceiling_s"])),
        ("  at the floor", span(tracking["at_floor_s"])),
        ("over budget", quantity(tracking["over_budget_s"], "s")),
        ("  energy over", quantity(tracking["over_budget_j"], "J")),
        ("  of it at the floor", quantity(tracking["over_at_floor_j"], "J")),
        ("  at most", share(tracking["max_over_fraction"])),
        ("unused while waiting", quantity(tracking["unused_while_waiting_j"], "J")),
        ("curtailed at site", quantity(summary["curtailed_j"], "J")),
        ("settling (p95)", quantity(tracking["settle_p95_s"], "s")),
        ("PJM score", UNKNOWN if score is None else f"{score:.2f}"),
    )
    grid = Table.grid(expand=True, padding=(0, 1))
    for _ in range(2):
        grid.add_column(style="dim", width=20)
        grid.add_column(justify="right", ratio=1)
        grid.add_column(width=1)
    for left, right in zip_longest(energy, budget, fillvalue=("", "")):
        grid.add_row(*left, "", *right)
    return grid


def _latency(summary: Summary) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    table.add_column("latency", style="dim", ratio=2)
    for name in ("p50", "p95", "p99", "SLO"):
        table.add_column(name, justify="right", ratio=1)
    latency, slo = summary["latency"], summary["slo"]
    table.add_row("first token (TTFT)", *_times(latency["ttft_s"]), quantity(slo["ttft_s"], "s"))
    table.add_row("each next (TPOT)", *_times(latency["tpot_s"]), quantity(slo["tpot_s"], "s"))
    table.add_row("whole request (E2E)", *_times(latency["e2e_s"]), UNKNOWN)
    return table


def _times(percentiles: Percentiles) -> tuple[str, str, str]:
    p50, p95, p99 = (percentiles[name] for name in ("p50", "p95", "p99"))
    return quantity(p50, "s"), quantity(p95, "s"), quantity(p99, "s")


def _requests(summary: Summary) -> RenderableType:
    counts = summary["requests"]
    ends = Text.assemble(
        ("requests  ", "dim"),
        f"{count(counts['completed'])} completed, ",
        (f"{count(counts['failed'])} failed", "red" if counts["failed"] else ""),
        f", {count(counts['rejected'])} rejected, {count(counts['shed'])} shed, "
        f"{count(counts['cancelled'])} cancelled"
        + (f", {count(counts['invalid'])} invalid" if counts["invalid"] else ""),
    )
    good = Text.assemble(
        ("good      ", "dim"),
        f"{share(summary['slo_attainment'])} within the SLOs, "
        f"{summary['request_goodput']:.3g} requests/s",
    )
    parts: list[RenderableType] = [Rule(style="bright_black"), ends, good]
    deferrable = summary["deferrable"]
    if deferrable["requests"]:
        done = (
            f"{count(deferrable['completed'])} of {count(deferrable['requests'])} completed, "
            f"E2E {quantity(deferrable['e2e_s']['p50'], 's')} (p50), "
            f"{quantity(deferrable['e2e_s']['p99'], 's')} (p99)"
        )
        parts.append(Text.assemble(("deferred  ", "dim"), done))
    if summary["stale_s"] > 0:
        stale = f"a supply was stale for {span(summary['stale_s'])}: the fallback applied"
        parts.append(Text.assemble(("stale     ", "dim"), (stale, "red")))
    parts.extend(_shortages(summary))
    parts.extend(_grid_events(summary))
    if summary["lost_lines"]:
        lost = (
            f"{count(summary['lost_lines'])} lines of the record could not be written: tracking "
            f"lacks {count(summary['lost_ticks'])} ticks, latency "
            f"{count(summary['lost_requests'])} requests; tokens and joules include them"
        )
        parts.append(Text.assemble(("lost      ", "dim"), (lost, "red")))
    if summary["broke_off"]:
        parts.append(Text.assemble(("broke off ", "dim"), (summary["broke_off"], "red")))
    if summary["gateway_restarts"]:
        restarts = count(summary["gateway_restarts"])
        restarted = f"gateway restarts: {restarts}; requests outstanding then are in no sum"
        parts.append(Text.assemble(("gateway   ", "dim"), (restarted, "red")))
    return Group(*parts)


def _shortages(summary: Summary) -> list[Text]:
    return [
        Text.assemble(
            ("short     ", "dim"),
            (
                f"budget short of {WORDS[of]} for {span(short['time_s'])}, "
                f"up to {quantity(short['most_w'], 'W')}",
                "red",
            ),
        )
        for of, short in summary["shortages"].items()
    ]


def _grid_events(summary: Summary) -> list[Text]:
    return [
        Text.assemble(
            ("grid      ", "dim"),
            (_event_text(event), "" if event["verdict"] == "complied" else "red"),
        )
        for event in summary["grid_events"]
    ]


def _event_text(event: EventSum) -> str:
    """Return one event in words."""
    if event["verdict"] == "not begun":
        return f"{event['event']}: set no limit in this run"
    less = f"{quantity(event['delivered_j'], 'J')} of {quantity(event['asked_j'], 'J')} less"
    if event["verdict"] == "complied":
        return f"{event['event']}: complied, {less}"
    announced = ", as the site had said" if event["reason"] else ""
    return f"{event['event']}: exceeded for {span(event['above_band_s'])}{announced}, {less}"


def _files(folder: Path, *, has_ledger: bool) -> Text:
    names = (SUMMARY_FILE, FIGURE_FILE, RECORD_FILE, REQUESTS_FILE)
    shown = ", ".join((*names, LEDGER_FOLDER) if has_ledger else names)
    return Text.assemble(("recorded  ", "dim"), (f"{folder}", "bold"), f": {shown}")
