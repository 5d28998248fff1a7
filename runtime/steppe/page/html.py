"""Renders the pages. Values never become markup: templates escape, scripts set text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib.resources import files

import orjson
from jinja2 import DictLoader, Environment, StrictUndefined

from steppe.page.assets import ICON, SCRIPTS, STYLES, assets
from steppe.page.layout import CHARTS, FORECAST, LIVE_GROUPS, LIVE_TABLES, ChartSpec

PREFIX = "/steppe/page/"
"""Where the gateway serves the files of the page."""
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'"
)
"""The content security policy: nothing from elsewhere, no inline script, no inline style."""


@cache
def environment() -> Environment:
    """Return the templates of this package."""
    folder = files("steppe.page").joinpath("templates")
    sources = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    found = Environment(
        loader=DictLoader(sources),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["chart_json"] = _chart_json
    return found


@cache
def live_page() -> bytes:
    """Return the live page; it holds no data, which come over the stream."""
    return render(
        "live.html",
        url_of=lambda name: f"{PREFIX}{name}?v={assets()[name].version}",
        scripts=SCRIPTS,
        groups=LIVE_GROUPS,
        charts=CHARTS,
        forecast=FORECAST,
        tables={table.key: table for table in LIVE_TABLES},
    )


def render(template: str, *, url_of: Callable[[str], str], **values: object) -> bytes:
    """Return a page.

    Args:
        template: Name of its template.
        url_of: Returns where a file of the page is, by its name.
        values: What the template shows.
    """
    page = environment().get_template(template)
    return page.render(url_of=url_of, styles=STYLES, icon=ICON, **values).encode()


def _chart_json(chart: ChartSpec) -> str:
    """Return what the scripts need of a chart, as JSON."""
    return orjson.dumps(asdict(chart)).decode()
