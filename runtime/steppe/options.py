"""Types and options of click that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

LARGEST = 10_000_000
"""Largest number in a list of batch limits, clock limits (MHz) or lengths (tokens)."""


class FiniteRange(click.FloatRange):
    """A range of finite numbers."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; fail if it is not finite."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class NumberList(click.ParamType[tuple[int, ...]]):
    """Whole numbers separated by commas, such as `1,4,16`; duplicates are dropped."""

    name = "n,n,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers; fail unless all are from 1 to `LARGEST`."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"asked for whole numbers with commas between, found {value!r}", param, ctx)
        if min(numbers) < 1:
            self.fail(f"asked for numbers above 0, found {value!r}", param, ctx)
        if max(numbers) > LARGEST:
            self.fail(f"asked for numbers up to {LARGEST:,}, found {value!r}", param, ctx)
        return tuple(dict.fromkeys(numbers))


class GivenText(click.ParamType[str]):
    """A text that is not empty; an unset variable of a shell script gives an empty one."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; fail if it is empty."""
        if not str(value).strip():
            self.fail("asked for a text that is not empty, found ''", param, ctx)
        return str(value)


class GivenPath(click.Path):
    """A path that is not empty: an empty one would be the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; fail if it is empty."""
        return super().convert(GivenText().convert(value, param, ctx), param, ctx)


ABOVE_ZERO = FiniteRange(min=0, min_open=True)
SEED = click.IntRange(0, (1 << 63) - 1)
"""A seed that numpy and the seed of an OpenAI request accept."""
EMULATED = click.Choice(("a100", "b200", "h100", "h200", "l4", "p40", "v100"))
"""GPU types of the emulator."""
NOT_NEGATIVE = click.IntRange(min=0)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def log_format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--log-format` to a command that follows a live run."""
    text = (
        "How to show each tick: text (a live table on a terminal, a line elsewhere) or json (an "
        "object a line on stdout, all else on stderr)."
    )
    choice = click.Choice(("text", "json"))
    return click.option("--log-format", type=choice, default="text", help=text)(command)
