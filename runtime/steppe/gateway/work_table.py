"""The work that runners have declared: it lives as long as they repeat it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from steppe.control.batch_work import BatchWork
from steppe.errors import SteppeError

MOST_PER_TENANT = 1000
"""Most jobs that one tenant may have declared at one time."""


class TooMuchWorkError(SteppeError):
    """A tenant has declared as many jobs as it may."""


@dataclass(frozen=True, slots=True)
class _Declared:
    """A declaration.

    Attributes:
        work: What was declared; its time to the deadline is that of `declared_s`.
        declared_s: When, s on the monotonic clock.
        expires_s: When it is forgotten, s on the same clock.
    """

    work: BatchWork
    declared_s: float
    expires_s: float


class WorkTable:
    """Declared work by tenant and name; what is not declared again in time is forgotten."""

    def __init__(self) -> None:
        """Begin without work."""
        self._declared: dict[str, _Declared] = {}

    def declare(self, work: BatchWork, now_s: float, ttl_s: float) -> None:
        """Keep this work for some time, in place of what the same job declared before.

        Args:
            work: The work.
            now_s: The time, s on the monotonic clock.
            ttl_s: How long it lives, s.

        Raises:
            TooMuchWorkError: The tenant has declared too many jobs.
        """
        self._forget(now_s)
        if work.key not in self._declared:
            own = sum(other.work.tenant == work.tenant for other in self._declared.values())
            if own >= MOST_PER_TENANT:
                found = f"asked for at most {MOST_PER_TENANT} jobs of {work.tenant}, found one more"
                raise TooMuchWorkError(found)
        self._declared[work.key] = _Declared(work, now_s, now_s + ttl_s)

    def withdraw(self, key: str, now_s: float) -> bool:
        """Forget a job; return whether it was known."""
        self._forget(now_s)
        return self._declared.pop(key, None) is not None

    def alive(self, now_s: float) -> tuple[BatchWork, ...]:
        """Return the work that is declared now, with the time to its deadline now."""
        self._forget(now_s)
        return tuple(_aged(each, now_s) for each in self._declared.values())

    def _forget(self, now_s: float) -> None:
        expired = [key for key, each in self._declared.items() if each.expires_s <= now_s]
        for key in expired:
            del self._declared[key]


def _aged(declared: _Declared, now_s: float) -> BatchWork:
    work = declared.work
    if work.due_in_s is None:
        return work
    return replace(work, due_in_s=work.due_in_s - (now_s - declared.declared_s))
