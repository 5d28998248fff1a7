"""Loss policies: what happens to the limits when the process that set them is lost."""

from __future__ import annotations

import re
from dataclasses import dataclass

from steppe.errors import UsageError

_NUMBER = r"[0-9]{1,9}(?:\.[0-9]+)?"
_FLOOR = re.compile(rf"(?:hold=(?P<hold>{_NUMBER})s,)?floor=(?P<value>{_NUMBER})(?P<unit>MHz|W)")


@dataclass(frozen=True, slots=True)
class ClockFloor:
    """Keep each GPU at or below an SM clock.

    Attributes:
        clock_mhz: SM clock limit, MHz.
    """

    clock_mhz: int


@dataclass(frozen=True, slots=True)
class PowerFloor:
    """Keep each GPU at or below a board power, as far down as its power limit reaches.

    Attributes:
        limit_w: Board power limit of each GPU, W.
    """

    limit_w: float


@dataclass(frozen=True, slots=True)
class Restore:
    """Undo every limit at once: for sites where work matters more than the power limit."""


@dataclass(frozen=True, slots=True)
class Floor:
    """Lower every GPU of the lease at once: for sites with a hard electrical limit.

    Attributes:
        to: The floor; a GPU with a lower limit keeps it.
    """

    to: ClockFloor | PowerFloor


@dataclass(frozen=True, slots=True)
class HoldThenFloor:
    """Keep every limit for a while, so that a restarted controller can return, then lower.

    Attributes:
        hold_s: How long the limits stay as they are, s.
        to: The floor after that.
    """

    hold_s: float
    to: ClockFloor | PowerFloor


LossPolicy = Restore | Floor | HoldThenFloor


def parse_loss(text: str) -> LossPolicy:
    """Read a loss policy: `restore`, `floor=210MHz`, `floor=200W` or `hold=30s,floor=210MHz`.

    Raises:
        UsageError: The text is none of these.
    """
    if text == "restore":
        return Restore()
    match = _FLOOR.fullmatch(text)
    if match is None:
        raise UsageError(
            f"asked for a loss policy (restore, floor=210MHz, hold=30s,floor=200W), found {text!r}"
        )
    value = float(match["value"])
    to = ClockFloor(round(value)) if match["unit"] == "MHz" else PowerFloor(value)
    return Floor(to) if match["hold"] is None else HoldThenFloor(float(match["hold"]), to)


def format_loss(loss: LossPolicy) -> str:
    """Write a loss policy as `parse_loss` reads it."""
    match loss:
        case Restore():
            return "restore"
        case Floor(to):
            return f"floor={_format_floor(to)}"
        case HoldThenFloor(hold_s, to):
            return f"hold={hold_s:g}s,floor={_format_floor(to)}"


def _format_floor(floor: ClockFloor | PowerFloor) -> str:
    match floor:
        case ClockFloor(clock_mhz):
            return f"{clock_mhz}MHz"
        case PowerFloor(limit_w):
            return f"{limit_w:g}W"
