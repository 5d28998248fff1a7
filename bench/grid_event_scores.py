"""How well the true draw of a fleet followed an event of the grid, second by second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from targets import at_most

BAND, HOLD_BAND, WORST, SETTLE_S = 0.02, 0.01, 0.05, 10.0
"""The draw is in band up to 2 % above the target; the mean of the hold has to be within 1 % of it,
and no second more than 5 % above it, once 10 s have passed since the start."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An event as the site accepted it; times are s since the Unix epoch, powers W.

    Attributes:
        name: What it is called in the results.
        heard_s: When the call was answered.
        starts_s: Its start.
        hold_until_s: End of its hold.
        ends_s: End of the time after it in which the draw stays at most at the baseline.
        baseline_w: Draw before it.
        target_w: What it allows in the hold.
        verdict: What the site said of it before its start.
    """

    name: str
    heard_s: float
    starts_s: float
    hold_until_s: float
    ends_s: float
    baseline_w: float
    target_w: float
    verdict: str

    @classmethod
    def of(cls, name: str, heard_s: float, shown: dict[str, Any], share: float) -> Asked:
        """Return an event from what the API shows of it."""
        verdict = shown["verdict"]
        return cls(
            name=name,
            heard_s=heard_s,
            starts_s=shown["starts"],
            hold_until_s=shown["hold_until"],
            ends_s=shown["ends"],
            baseline_w=shown["baseline_w"],
            target_w=share * shown["baseline_w"],
            verdict=verdict.get("reason", "") or "complies",
        )


Second = tuple[float, float]
"""End of a second, s since the Unix epoch, and its mean draw, W."""


def seconds_of(samples: Sequence[tuple[float, float]]) -> list[Second]:
    """Return the mean draw of each second of samples that are shorter.

    Args:
        samples: End of each sample, s, and its mean draw, W.
    """
    found: list[Second] = []
    energy_j = span_s = 0.0
    for (before_s, _), (at_s, watts) in pairwise(samples):
        energy_j, span_s = energy_j + watts * (at_s - before_s), span_s + at_s - before_s
        if span_s >= 0.999:
            found.append((at_s, energy_j / span_s))
            energy_j = span_s = 0.0
    return found


def row_of(asked: Asked, seconds: Sequence[Second]) -> dict[str, Any]:
    """Return how well the draw followed a partial event.

    `in_band_s` is the time from the start to the end of the last second above the band before
    10 s of the hold have been in it; with notice, the band holds from the first whole second on.
    """
    hold = [s for s in seconds if asked.starts_s + 1 <= s[0] <= asked.hold_until_s]
    settled = [s for s in hold if s[0] > asked.starts_s + SETTLE_S + 1]
    after = [s for s in seconds if asked.hold_until_s + 1 < s[0] <= asked.ends_s]
    early = settled if asked.heard_s + 1 > asked.starts_s else hold
    return {
        "event": asked.name,
        "verdict": asked.verdict,
        "notice_s": asked.starts_s - asked.heard_s,
        "hold_s": asked.hold_until_s - asked.starts_s,
        "baseline_w": asked.baseline_w,
        "target_w": asked.target_w,
        "in_band_s": in_band_s(asked, hold),
        "hold_error": mean_w(settled) / asked.target_w - 1,
        "hold_mae": mean_w([(t, abs(w - asked.target_w)) for t, w in settled]) / asked.target_w,
        "worst_second": max(w for _, w in early) / asked.target_w - 1,
        "rebound": mean_w(after) / asked.baseline_w - 1,
        "rebound_worst_second": max(w for _, w in after) / asked.baseline_w - 1,
    }


def island_row(asked: Asked, seconds: Sequence[Second], asleep_w: float) -> dict[str, Any]:
    """Return how a fleet followed an event that allows nothing, and came back.

    Args:
        asked: The event.
        seconds: The true draw.
        asleep_w: Draw of the fleet while all replicas sleep, W.
    """
    hold = [s for s in seconds if asked.starts_s + 1 <= s[0] <= asked.hold_until_s]
    above = [t_s for t_s, watts in hold if watts > (1 + WORST) * asleep_w]
    back = [t_s for t_s, watts in seconds if t_s > asked.ends_s and watts > 0.9 * asked.baseline_w]
    return {
        "event": asked.name,
        "verdict": asked.verdict,
        "baseline_w": asked.baseline_w,
        "asleep_w": asleep_w,
        "lowest_w": min(watts for _, watts in hold),
        "asleep_after_s": max(above, default=asked.starts_s) - asked.starts_s,
        "delivered_of_sheddable": (asked.baseline_w - mean_w(hold[-5:]))
        / (asked.baseline_w - asleep_w),
        "back_after_s": min(back, default=float("inf")) - asked.ends_s,
    }


def in_band_s(asked: Asked, hold: Sequence[Second]) -> float:
    """Return how long it took until the draw was in band for 10 s, s; infinite if it never was."""
    began_s = asked.starts_s
    for t_s, watts in hold:
        if watts > (1 + BAND) * asked.target_w:
            began_s = t_s
        elif t_s - began_s >= SETTLE_S:
            return began_s - asked.starts_s
    return float("inf")


def mean_w(seconds: Sequence[Second]) -> float:
    """Return the mean of seconds."""
    return sum(watts for _, watts in seconds) / len(seconds)


def targets_of(
    rows: Sequence[dict[str, Any]], island: dict[str, Any], lost: int
) -> list[dict[str, Any]]:
    """Return the targets."""
    found = []
    for row in rows:
        name = row["event"]
        found += [
            at_most(f"{name}: in band after", row["in_band_s"], "s", SETTLE_S),
            at_most(f"{name}: mean of the hold off by", abs(row["hold_error"]), "share", HOLD_BAND),
            at_most(f"{name}: worst second over", row["worst_second"], "share", WORST),
            at_most(f"{name}: rebound over the baseline", row["rebound"], "share", 0.0),
        ]
    return [
        *found,
        at_most(f"{island['event']}: all asleep after", island["asleep_after_s"], "s", SETTLE_S),
        at_most(f"{island['event']}: back after", island["back_after_s"], "s", 15.0),
        at_most("streams lost", lost, "streams", 0),
    ]
