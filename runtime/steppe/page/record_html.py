"""The page of a recorded run, or of two side by side: one folder with all that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files

import orjson

from steppe.page.assets import ICON, RECORD_SCRIPTS, STYLES, assets
from steppe.page.html import render
from steppe.page.layout import CHARTS, ChartSpec, SeriesSpec
from steppe.page.quantities import shown_groups
from steppe.page.record import RECORD_TABLES, ShownRun

INDEX, DATA = "index.html", "data.js"
_COLOURS = ("one", "two")
_SCRIPTS = (*RECORD_SCRIPTS[:-1], DATA, RECORD_SCRIPTS[-1])
LICENCE = "uPlot.LICENSE"
"""It goes with the charts wherever they go."""


def record_files(runs: Sequence[ShownRun]) -> Mapping[str, bytes]:
    """Return the files of the page by their names; `index.html` is the page.

    Args:
        runs: The run, or the two runs.
    """
    page = render(
        "record.html",
        url_of=lambda name: name,
        scripts=_SCRIPTS,
        runs=runs,
        source=" and ".join(dict.fromkeys(run.source for run in runs)),
        groups=shown_groups([run.summary for run in runs]),
        charts=CHARTS if len(runs) == 1 else tuple(_pair(chart, runs) for chart in CHARTS),
        tables=[(table, [run.tables[table.key] for run in runs]) for table in RECORD_TABLES],
    )
    names = (*STYLES, *RECORD_SCRIPTS, ICON)
    data = orjson.dumps([{"name": run.name, "columns": run.columns} for run in runs])
    return {
        INDEX: page,
        DATA: b'"use strict";\nsteppe.runs = ' + data + b";\n",
        **{name: assets()[name].body for name in names},
        LICENCE: files("steppe.page").joinpath("vendor", LICENCE).read_bytes(),
    }


def _pair(chart: ChartSpec, runs: Sequence[ShownRun]) -> ChartSpec:
    """Return a chart with the lines of both runs: of power, draw and budget."""
    lines = [line for line in chart.series if line.column not in ("supply_w", "most_draw_w")]
    series = tuple(
        SeriesSpec(
            f"{index}:{line.column}",
            f"{run.name}: {line.label}",
            f"{_COLOURS[index]}-budget" if line.is_dashed else _COLOURS[index],
            is_dashed=line.is_dashed,
        )
        for index, run in enumerate(runs)
        for line in lines
        if chart.key != "queue" or line.column == "waiting"
    )
    return replace(chart, series=series)
