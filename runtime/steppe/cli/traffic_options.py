"""Options for the traffic of a synthetic load, which several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from steppe.errors import UsageError
from steppe.load.plan import SYNTHETIC_S
from steppe.load.rates import DayClock
from steppe.load.synthetic import SyntheticLoad, TrafficChange
from steppe.load.traffics import TRAFFICS

SYNTHETIC = "synthetic"


class TrafficChangeText(click.ParamType[TrafficChange]):
    """A change of traffic as `AT_S:TRAFFIC` or `AT_S:TRAFFIC:RATE`."""

    name = "at_s:traffic[:rate]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> TrafficChange:
        """Return the change; fail unless its parts are two numbers above 0 and a traffic."""
        if isinstance(value, TrafficChange):
            return value
        parts = str(value).split(":")
        try:
            at_s, name, *rates = parts
            numbers = [float(at_s), *(float(rate) for rate in rates)]
            traffic = {str(key): shape for key, shape in TRAFFICS.items()}[name]
        except (ValueError, KeyError):
            self.fail(f"asked for {self.name} with a known traffic, found {value!r}", param, ctx)
        if len(numbers) > 2 or not all(0 < number < math.inf for number in numbers):
            self.fail(f"asked for {self.name} with numbers above 0, found {value!r}", param, ctx)
        return TrafficChange(numbers[0], traffic, *numbers[1:])


def traffic_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--traffic` and `--traffic-change` to a command that sends a synthetic load."""
    change = click.option(
        "--traffic-change",
        "traffic_changes",
        type=TrafficChangeText(),
        multiple=True,
        help="Another traffic from AT_S on, such as 60:summaries or, with its rate, "
        "60:summaries:4; may be repeated.",
    )
    traffic = click.option(
        "--traffic",
        type=click.Choice(tuple(TRAFFICS)),
        help="What users ask for, with --trace synthetic; conversation by default. A day of a "
        "traffic that moves over the day lasts as long as the load.",
    )
    return traffic(change(command))


def load_source(values: dict[str, Any]) -> SyntheticLoad | Path:
    """Return the traffic or the trace file that the options of a command name.

    Raises:
        UsageError: They name a trace file and a traffic, or changes out of order.
    """
    trace, traffic = values["trace"] or SYNTHETIC, values["traffic"]
    changes: tuple[TrafficChange, ...] = values["traffic_changes"]
    if trace != SYNTHETIC:
        if traffic is not None or changes:
            raise UsageError("give --traffic with --trace synthetic, not with a trace file")
        return Path(trace)
    times_s = [change.at_s for change in changes]
    if times_s != sorted(set(times_s)):
        raise UsageError(f"--traffic-change: asked for rising times, found {times_s}")
    day = DayClock(day_s=values["duration"] or SYNTHETIC_S)
    return SyntheticLoad(TRAFFICS[traffic or "conversation"], day=day, changes=changes)
