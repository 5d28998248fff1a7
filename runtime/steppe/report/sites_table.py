"""What a terminal shows at the end of a run of several sites."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from steppe.report.quantities import UNKNOWN, count, quantity, share
from steppe.report.sites_summary import SitesSummary, SiteSummary


def sites_table(summary: SitesSummary, folder: Path) -> RenderableType:
    """Return one column for each site, and one for all of them.

    Args:
        summary: What they achieved.
        folder: The record folder.
    """
    title = f"{len(summary['sites'])} sites, routing {summary['routing']}: energy modelled"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    columns = {**summary["sites"], "all": summary["total"]}
    for name in columns:
        table.add_column(name, justify="right", style="bold" if name == "all" else None)
    rows = [_rows(column, summary["currency"]) for column in columns.values()]
    for label in rows[0]:
        table.add_row(label, *(row[label] for row in rows))
    return Group(table, Text(f"\nrecord: {folder}", style="bright_black"))


def _rows(site: SiteSummary, currency: str) -> dict[str, str]:
    """Return the lines of one column."""
    ttft, interactive = site["ttft_s"], site["interactive_ttft_s"]
    return {
        "energy": quantity(site["energy_j"] / 3600, "Wh"),
        "  from own wind and sun": share(site["green_share"]),
        "own wind and sun used": share(site["own_used_share"]),
        f"cost of the rest ({currency})": f"{site['cost']:.2f}",
        "carbon of the rest": quantity(site["carbon_g"], "g"),
        "over budget": quantity(site["over_budget_j"], "J"),
        "output tokens of the fleet": count(site["output_tokens"]),
        "requests of its clients": count(site["requests"]),
        "  served elsewhere": share(site["moved_share"]),
        "  refused": count(site["refused"]),
        "  failed": count(site["failed"]),
        "  refusals on the way": count(site["refusals"]),
        "TTFT p50": _time(ttft["p50"]),
        "TTFT p99": _time(ttft["p99"]),
        "  interactive p99": _time(interactive["p99"]),
        "SLO kept": share(site["slo_attainment"]),
        "prompt tokens cached": share(site["cached_share"]),
        "  lost by moves": share(site["lost_share"]),
    }


def _time(value_s: float | None) -> str:
    return UNKNOWN if value_s is None else quantity(value_s, "s") if value_s >= 1 else _ms(value_s)


def _ms(value_s: float) -> str:
    return f"{1e3 * value_s:.0f} ms"
