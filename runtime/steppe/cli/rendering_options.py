"""The options of `steppe grid offer --as`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from steppe.options import GivenText

_Command = TypeVar("_Command", bound=Callable[..., Any])
_WATTS = click.FloatRange(min=0)
_UFTP = "; for uftp."
_OPTIONS = (
    click.option(
        "--as",
        "language",
        type=click.Choice(["openadr", "dsx", "s2", "uftp", "steps"]),
        help="Write what is free in a language of the grid: uftp is XML, the others are JSON.",
    ),
    click.option(
        "--draw",
        "draw_w",
        type=_WATTS,
        help="What the site draws without a call, W; its last draw if absent; for dsx and s2.",
    ),
    click.option(
        "--most",
        "most_w",
        type=_WATTS,
        help="Most that it ever draws, W; the draw and the offer upwards if absent; "
        "for dsx and s2.",
    ),
    click.option(
        "--default",
        "default_w",
        type=_WATTS,
        help="What holds where nothing is asked, W; the most if absent; for dsx.",
    ),
    click.option("--currency", type=GivenText(), help="Such as EUR; for uftp, and costs in s2."),
    click.option(
        "--lot",
        "lot_w",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Smallest quantity of the market, W; for steps.",
    ),
    click.option(
        "--event",
        type=GivenText(),
        default="offer",
        show_default=True,
        help="Id of the event that asked for the reports; for openadr.",
    ),
    click.option("--sender", type=GivenText(), help=f"Your internet domain{_UFTP}"),
    click.option("--recipient", type=GivenText(), help=f"Domain of the grid operator{_UFTP}"),
    click.option(
        "--congestion-point",
        type=GivenText(),
        help=f"Such as ean.871685900012636543{_UFTP}",
    ),
    click.option(
        "--time-zone",
        type=GivenText(),
        default="Europe/Amsterdam",
        show_default=True,
        help=f"Zone in which days begin{_UFTP}",
    ),
    click.option(
        "--baseline",
        type=GivenText(),
        default="agreed",
        show_default=True,
        help=f"Baseline that the change is against{_UFTP}",
    ),
)


def rendering_options(command: _Command) -> _Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
