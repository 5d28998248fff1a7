"""What a supply or a limit says at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.power.signal import Fresh, Missing, Reading, Stale
from steppe.power.supply import Supply


@dataclass(frozen=True, slots=True)
class SourceState:
    """What a supply or a limit says at one moment.

    Attributes:
        kind: `supply` or `limit`.
        name: Its name.
        state: `fresh`, `stale` or `missing`.
        watts: Its power, W; None unless it is fresh.
        age_s: Age of its last value, s; None if there is none.
        reason: Why it is missing; empty if it is not.
    """

    kind: str
    name: str
    state: str
    watts: float | None = None
    age_s: float | None = None
    reason: str = ""


def source_state(kind: str, source: Supply, reading: Reading) -> SourceState:
    """Return the state of a source.

    Args:
        kind: `supply` or `limit`.
        source: The source.
        reading: What it says.
    """
    match reading:
        case Fresh(watts=watts, age_s=age_s):
            return SourceState(kind, source.name, "fresh", watts, age_s)
        case Stale(age_s=age_s):
            return SourceState(kind, source.name, "stale", age_s=age_s)
        case Missing(reason=reason):
            return SourceState(kind, source.name, "missing", reason=reason)
