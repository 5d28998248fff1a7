"""The report of `steppe doctor`, for people and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from steppe.run.doctor.examine import Diagnosis
from steppe.run.doctor.finding import Finding, Level
from steppe.run.doctor.gpu_facts import GpuFacts

_STYLES = {
    Level.OK: "green",
    Level.UNKNOWN: "dim",
    Level.WARNING: "yellow",
    Level.FATAL: "bold red",
}
EMULATED = "The GPUs are emulated: what they report says nothing about real ones."
GROUPS = ("cluster", "software", "GPUs", "control", "host", "model", "budget")
"""Headings, in the order of the report."""
_GB = 1e9


def to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as one JSON document; sets are lists."""
    return {
        "level": diagnosis.level,
        "fatal": len(diagnosis.fatal),
        "warnings": sum(f.level is Level.WARNING for f in diagnosis.findings),
        "emulated": diagnosis.is_emulated,
        "findings": [dataclasses.asdict(finding) for finding in diagnosis.findings],
        "nodes": [dataclasses.asdict(node) for node in diagnosis.nodes],
    }


def render(diagnosis: Diagnosis, title: str) -> RenderableType:
    """Return a diagnosis for a terminal.

    Args:
        diagnosis: What was found.
        title: What was looked at.
    """
    parts: list[RenderableType] = [Text(title, "bold")]
    if diagnosis.is_emulated:
        parts.append(Text(EMULATED, "yellow"))
    if len(diagnosis.nodes) == 1 and diagnosis.nodes[0].gpus:
        parts.append(_gpus(diagnosis.nodes[0].gpus))
    parts += [_findings(diagnosis), _end(diagnosis)]
    return Group(*parts)


def _gpus(gpus: Sequence[GpuFacts]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    mixed = len({gpu.name for gpu in gpus}) > 1  # a finding names GPUs that are all alike
    for heading in ("GPU", "UUID", "memory", "SM clock", "limit", "draw", "counter"):
        right = heading in ("memory", "SM clock", "limit", "draw")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for gpu in gpus:
        table.add_row(
            f"{gpu.index} {gpu.name}" if mixed else str(gpu.index),
            gpu.uuid[:12],
            _unit(None if gpu.memory_bytes is None else gpu.memory_bytes / _GB, "GB"),
            _unit(gpu.sm_clock_mhz, "MHz"),
            _unit(gpu.enforced_w, "W"),
            _unit(gpu.counter.power_w, "W"),
            _counter(gpu),
        )
    return table


def _unit(number: float | None, unit: str) -> str:
    return "-" if number is None else f"{number:.0f} {unit}"


def _counter(gpu: GpuFacts) -> str:
    counter = gpu.counter
    if not counter.exists:
        return "none"
    if counter.period_s is None:
        return "-"
    share = counter.error_share
    agreement = "" if share is None else f", {share * 100:+.1f} %"
    return f"every {counter.period_s * 1e3:.0f} ms{agreement}"


def _findings(diagnosis: Diagnosis) -> Table:
    """Return a row for each finding, those of the same group together."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for finding, where in _merged(diagnosis):
        group = "" if finding.group == before else finding.group
        before = finding.group
        style = _STYLES[finding.level]
        text: RenderableType = Text(f"{where}{finding.found}")
        if finding.advice and finding.level is not Level.OK:
            text = Group(text, Padding(Text(f"do: {finding.advice}", "italic"), (0, 0, 0, 2)))
        table.add_row(group, Text(finding.level, style), finding.check, text)
    return table


def _merged(diagnosis: Diagnosis) -> Iterable[tuple[Finding, str]]:
    """Yield each finding once, sorted by group, with the nodes that it is of."""
    nodes = [node.name for node in diagnosis.nodes]
    places: dict[Finding, list[str]] = {}
    for finding in diagnosis.findings:
        same = dataclasses.replace(finding, node="")
        places.setdefault(same, []).append(finding.node)
    for finding in sorted(places, key=lambda finding: GROUPS.index(finding.group)):
        found = [node for node in places[finding] if node]
        yield finding, _where(found, nodes)


def _where(found: Sequence[str], nodes: Sequence[str]) -> str:
    if len(nodes) < 2 or not found:
        return ""
    if len(found) == len(nodes):
        return f"all {len(nodes)} nodes: "
    return f"{', '.join(found)}: "


def _end(diagnosis: Diagnosis) -> Text:
    fatal = len(diagnosis.fatal)
    warnings = sum(finding.level is Level.WARNING for finding in diagnosis.findings)
    if fatal:
        return Text(f"{_count(fatal, 'fatal finding')}: a run cannot work here", "bold red")
    if warnings:
        return Text(f"{_count(warnings, 'warning')}, nothing fatal: a run can start", "yellow")
    return Text("nothing is wrong: a run can start", "green")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
