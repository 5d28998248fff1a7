"""What each step of the market costs in the end: one line of a file for each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any

from steppe.disk import disk_errors
from steppe.grid.plan.day import local
from steppe.grid.plan.series import DAY_S, Times
from steppe.grid.plan.settle import ImbalancePrice, settled
from steppe.grid.plan.terms import JOULES_PER_MWH
from steppe.grid.service.plan.step_meter import MeteredStep

IMBALANCE_FILE = "imbalance.jsonl"
MICRO = 1_000_000
LIKE_DAYS, LAST_STEPS = 7, 4
"""Days whose mean is expected of a day; and without one, steps whose mean is expected to go on."""


@dataclass(frozen=True, slots=True)
class SettledStep:
    """A step that is over.

    Attributes:
        metered: What the site drew.
        position_w: What was bought, W; None for nothing.
        renewable_w: Wind and sun, W.
        grid_w: Drawn from the grid, W; below zero where fed in.
        price: Price of a MWh, money; None where there is none.
        spread: How much worse each direction of imbalance is, money per MWh.
        currency: Currency of the price.
    """

    metered: MeteredStep
    position_w: float | None
    renewable_w: float
    grid_w: float
    price: float | None
    spread: float
    currency: str

    def amount_micro(self, step_s: float) -> int | None:
        """Return what the site pays, millionths; None without a position or a price."""
        if self.position_w is None or self.price is None:
            return None
        price = ImbalancePrice(
            round((self.price + self.spread) * MICRO), round((self.price - self.spread) * MICRO)
        )
        bought_w, drawn_w = round(self.position_w), round(self.grid_w)
        return settled([bought_w], [drawn_w], [price], round(step_s))[0].amount

    def document(self, step_s: float, zone: tzinfo) -> dict[str, Any]:
        """Return it as a line of the file."""
        amount, bought_w = self.amount_micro(step_s), self.position_w
        return {
            "begins": local(self.metered.begins_s, zone).isoformat(),
            "begins_s": self.metered.begins_s,
            "step_s": step_s,
            "position_w": None if bought_w is None else round(bought_w),
            "draw_w": round(self.metered.draw_w),
            "renewable_w": round(self.renewable_w),
            "grid_w": round(self.grid_w),
            "imbalance_w": None if bought_w is None else round(self.grid_w) - round(bought_w),
            "covered_share": round(self.metered.covered_share, 4),
            "energy_source": self.metered.energy_source,
            "price": None if self.price is None else round(self.price, 4),
            "amount_micro": amount,
            "currency": self.currency,
        }


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Write a line at the end of the file.

    Raises:
        DiskFullError: No space is left.
        UsageError: It cannot be written.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class DrawHistory:
    """What the site drew in the steps of the last days."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._draw_w: dict[float, float] = {}

    @classmethod
    def read(cls, path: Path) -> DrawHistory:
        """Return what a file holds; a line that is torn is left out."""
        found = cls()
        if not path.is_file():
            return found
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
                found.add(float(line["begins_s"]), float(line["draw_w"]))
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def has(self, begins_s: float) -> bool:
        """Whether a step is known."""
        return begins_s in self._draw_w

    def add(self, begins_s: float, draw_w: float) -> None:
        """Take note of a step."""
        self._draw_w[begins_s] = draw_w
        oldest_s = begins_s - (LIKE_DAYS + 1) * DAY_S
        if len(self._draw_w) > 2 * (LIKE_DAYS + 1) * DAY_S / 60:
            self._draw_w = {at: w for at, w in self._draw_w.items() if at >= oldest_s}

    def expected(self, times: Times, output_of: Callable[[float], float]) -> list[float] | None:
        """Return the tokens per second that the usual draw yields; None without any history.

        Args:
            times: The steps.
            output_of: Returns the tokens per second of a draw, W.
        """
        if not self._draw_w:
            return None
        last = list(self._draw_w.values())[-LAST_STEPS:]
        lately_w = sum(last) / len(last)
        return [output_of(self._like(at_s, lately_w)) for at_s in times]

    def _like(self, at_s: float, otherwise_w: float) -> float:
        days = (self._draw_w.get(at_s - day * DAY_S) for day in range(1, LIKE_DAYS + 2))
        found = [watts for watts in days if watts is not None][:LIKE_DAYS]
        return sum(found) / len(found) if found else otherwise_w


def price_of(per_j: float | None) -> float | None:
    """Return a price per joule as one per MWh."""
    return None if per_j is None else per_j * JOULES_PER_MWH
