"""Calls to actors whose results are not there yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import ray


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call to an actor, and when its result is due, s."""

    call: Any
    due_s: float

    @property
    def is_done(self) -> bool:
        """Whether the call has a result; does not wait."""
        return Answers.of([self]).has(self)


class Answers:
    """The calls that have a result, looked up together: one look at each costs far more."""

    __slots__ = ("_done", "_values")

    def __init__(self, done: Iterable[Any], values: Mapping[Any, Any]) -> None:
        """Keep the calls that have a result, and the results that are known."""
        self._done, self._values = frozenset(done), values

    @classmethod
    def of(cls, calls: Iterable[PendingCall]) -> Self:
        """Look which of some calls have a result; does not wait."""
        every = [pending.call for pending in calls]
        if not every:
            return cls((), {})
        done, _ = ray.wait(every, num_returns=len(every), timeout=0)
        try:
            return cls(done, dict(zip(done, ray.get(done), strict=True)))
        except ray.exceptions.RayError:  # one of them failed: `result` tells which
            return cls(done, {})

    def has(self, pending: PendingCall) -> bool:
        """Whether a call has a result."""
        return pending.call in self._done

    def result(self, pending: PendingCall) -> Any:
        """Return the result of a call that has one.

        Raises:
            RayError: It failed.
        """
        if pending.call in self._values:
            return self._values[pending.call]
        return ray.get(pending.call)
