"""What the controller said of the fleet last."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class FleetState:
    """What the controller said of the fleet last.

    Attributes:
        values: Its values, by name; empty before the first tick.
        set_s: When it said so, s on the monotonic clock; not a number before.
    """

    values: dict[str, Any] = field(default_factory=dict)
    set_s: float = math.nan

    def set(self, state: bytes, now_s: float) -> None:
        """Replace it by a JSON object."""
        self.values, self.set_s = orjson.loads(state), now_s

    def of_model(self, model: str) -> dict[str, Any]:
        """Return the values of one model."""
        found: dict[str, Any] = self.values.get("models", {}).get(model, {})
        return found
