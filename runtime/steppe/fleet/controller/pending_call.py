"""A call to an actor whose result is not there yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call to an actor, and when its result is due, s."""

    call: Any
    due_s: float

    @property
    def is_done(self) -> bool:
        """Whether the call has a result; does not wait."""
        done, _ = ray.wait([self.call], timeout=0)
        return bool(done)
