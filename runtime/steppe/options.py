"""What may an option be? Types that the commands share."""

from __future__ import annotations

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A range of numbers without infinity and without `nan`."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or fail with one line that says what was found."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


ABOVE_ZERO = FiniteRange(min=0, min_open=True)
SEED = click.IntRange(0, (1 << 63) - 1)
"""A seed that numpy takes, and a server in a request."""
EMULATED = click.Choice(("a100", "b200", "h100", "h200", "l4", "p40", "v100"))
"""The GPUs of the emulator."""
NOT_NEGATIVE = click.IntRange(min=0)
