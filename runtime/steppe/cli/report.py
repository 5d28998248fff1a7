"""`steppe report`: recorded runs as a page."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from steppe.errors import UsageError
from steppe.options import GivenPath
from steppe.run.record_page.files import MOST_RUNS, page_of, write_page
from steppe.run.record_page.server import serve_page


@click.command("report", epilog="Example: steppe report runs/monday runs/tuesday --open")
@click.argument("runs", nargs=-1, required=True, type=GivenPath(path_type=Path))
@click.option(
    "--open",
    "opens",
    is_flag=True,
    help="Show the page in the browser of this machine, until Ctrl-C.",
)
@click.option(
    "--out",
    type=GivenPath(path_type=Path),
    help="Write the page into this folder; it needs no server and nothing from elsewhere.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default="a free one",
    help="Port on 127.0.0.1 for --open.",
)
def report_command(runs: tuple[Path, ...], opens: bool, out: Path | None, port: int) -> None:
    """Show the record of a run as a page, or two side by side.

    RUNS are one or two folders of records. The page is that of the live gateway: what is in the
    summary, charts of the whole run, and tables of replicas, tenants, shortages and events. A run
    that goes on is shown as far as it is.
    """
    if len(runs) > MOST_RUNS:
        raise UsageError(f"asked for one record or two, found {len(runs)}")
    if not opens and out is None:
        raise UsageError("asked for --open or --out FOLDER, found neither")
    if out is not None:
        click.echo(f"wrote {write_page(runs, out)}")
    if opens:
        with contextlib.suppress(KeyboardInterrupt):
            serve_page(page_of(runs), port, lambda url: click.echo(f"{url} (Ctrl-C ends it)"))
