"""What a plan of the markets says, and what the controller gets of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MarketPlan:
    """What to do in each step.

    Attributes:
        step_s: Length of a step, s.
        traded_w: What to buy now, W; below zero what to sell.
        grid_w: Draw from the grid with what was bought before, W; below zero while it feeds in.
        draw_w: Draw of the fleet, W.
        charge_w: What the battery takes, W.
        discharge_w: What it gives, W.
        stored_j: Energy in it at the end of the step, J.
        spilled_w: Wind and sun that are not used, W.
        deferred_tps: Output tokens per second of work that can wait.
        late_tokens: Deferrable tokens that miss their deadline in the step, or are given up.
        shed_tps: Firm output tokens per second that no power is left for.
        down_w: By how much the draw can fall in reserve, W.
        up_w: By how much it can rise in reserve, W.
        missed_w: Reserve that is sold and cannot be held, W.
        worth: What the plan yields less what it costs, money, with what the end is worth.
    """

    step_s: float
    traded_w: tuple[float, ...]
    grid_w: tuple[float, ...]
    draw_w: tuple[float, ...]
    charge_w: tuple[float, ...]
    discharge_w: tuple[float, ...]
    stored_j: tuple[float, ...]
    spilled_w: tuple[float, ...]
    deferred_tps: tuple[float, ...]
    late_tokens: tuple[float, ...]
    shed_tps: tuple[float, ...]
    down_w: tuple[float, ...]
    up_w: tuple[float, ...]
    missed_w: tuple[float, ...]
    worth: float

    def limits_w(self, from_s: float) -> tuple[tuple[float, float], ...]:
        """Return the limits of the fleet's draw: from when, s, and how many watts, W.

        A limit that equals the one before is left out.

        Args:
            from_s: When the first step begins, s since the Unix epoch.
        """
        found: list[tuple[float, float]] = []
        for step, draw_w in enumerate(self.draw_w):
            watts = round(draw_w, 1)
            if not found or found[-1][1] != watts:
                found.append((from_s + step * self.step_s, watts))
        return tuple(found)
