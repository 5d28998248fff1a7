"""The instructions of an energy manager, and the limit that they make together. Pure.

An instruction holds from its start until it ends or a later one starts; where one has ended, the
default of the site holds, and where one is revoked, too: what it replaced does not come back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from steppe.errors import UsageError
from steppe.grid.limits.limit import Limit, Step

MOST_HELD = 500
"""Most instructions that are held at once."""
_TICK_S = 0.001
"""Smallest difference of two issues, s."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What an energy manager asks.

    Attributes:
        id: Its id.
        steps: Most that the site may draw, in the order of time; the first begins at its start.
        ends_s: End, s since the Unix epoch; infinite if it holds until the next.
    """

    id: str
    steps: tuple[Step, ...]
    ends_s: float = math.inf

    @property
    def starts_s(self) -> float:
        """Start, s since the Unix epoch."""
        return self.steps[0].from_s

    def at(self, now_s: float) -> float | None:
        """Return the most that it allows, W; None where it has not begun or has ended."""
        if not self.starts_s <= now_s < self.ends_s:
            return None
        return next(step.watts for step in reversed(self.steps) if step.from_s <= now_s)


@dataclass(frozen=True, slots=True)
class Instructed:
    """The instructions that are held.

    Attributes:
        held: The instructions, in the order of their starts.
        issued_s: Issue of the last limit that they made, s since the Unix epoch.
    """

    held: tuple[Instruction, ...] = ()
    issued_s: float = 0.0

    def find(self, id_: str) -> Instruction | None:
        """Return the instruction of an id."""
        return next((each for each in self.held if each.id == id_), None)

    def governing(self, now_s: float) -> Instruction | None:
        """Return the last of those that have begun."""
        return next((each for each in reversed(self.held) if each.starts_s <= now_s), None)

    def with_new(self, instruction: Instruction, now_s: float) -> Instructed:
        """Return it with a further instruction, and without those that matter no more.

        Raises:
            UsageError: Too many instructions are held.
        """
        others = [e for e in self._living(now_s) if e.starts_s != instruction.starts_s]
        if len(others) >= MOST_HELD:
            raise UsageError(f"asked for at most {MOST_HELD} instructions, found one more")
        held = sorted([*others, instruction], key=lambda each: each.starts_s)
        return Instructed(tuple(held), self._next_s(now_s))

    def without(self, id_: str, now_s: float) -> Instructed:
        """Return it without the instruction of an id."""
        held = tuple(each for each in self._living(now_s) if each.id != id_)
        return Instructed(held, self._next_s(now_s))

    def at_most(self, watts: float) -> Instructed:
        """Return it with no limit above some watts."""
        held = (
            replace(each, steps=tuple(Step(s.from_s, min(s.watts, watts)) for s in each.steps))
            for each in self.held
        )
        return replace(self, held=tuple(held))

    def limit(self, name: str, source: str, default_w: float) -> Limit | None:
        """Return the schedule that all of them make; None if there is none.

        Args:
            name: Name of the limit.
            source: Its link.
            default_w: What holds where no instruction does, W.
        """
        if not self.held:
            return None
        times = {step.from_s for each in self.held for step in each.steps}
        times |= {each.ends_s for each in self.held if math.isfinite(each.ends_s)}
        steps = []
        for at_s in sorted(times):
            found = self.governing(at_s)
            watts = None if found is None else found.at(at_s)
            steps.append(Step(at_s, default_w if watts is None else watts))
        last, expires_s = self.held[-1], None
        if math.isfinite(last.ends_s):
            expires_s = last.ends_s
            steps = [each for each in steps if each.from_s < expires_s]
        return Limit(name, source, self.issued_s, tuple(steps), expires_s, default_w)

    def _living(self, now_s: float) -> tuple[Instruction, ...]:
        """Return the one that governs now, unless it has ended, and those that begin later."""
        governing = self.governing(now_s)
        return tuple(
            each
            for each in self.held
            if each.starts_s > now_s or (each is governing and each.ends_s > now_s)
        )

    def _next_s(self, now_s: float) -> float:
        return max(now_s, self.issued_s + _TICK_S)


def of_limit(limit: Limit) -> Instructed:
    """Return instructions that make a limit; each step is one, for what they were is not known."""
    ends = [*(step.from_s for step in limit.watts[1:]), limit.expires_s or math.inf]
    held = tuple(
        Instruction(f"kept-{number}", (step,), end_s)
        for number, (step, end_s) in enumerate(zip(limit.watts, ends, strict=bool(limit.watts)))
    )
    return Instructed(held, limit.issued_s)


def to_json(instructed: Instructed) -> dict[str, Any]:
    """Return it as JSON, for the file in which it is kept."""
    return {
        "issued_s": instructed.issued_s,
        "held": [
            {
                "id": each.id,
                "steps": [[step.from_s, step.watts] for step in each.steps],
                "ends_s": each.ends_s if math.isfinite(each.ends_s) else None,
            }
            for each in instructed.held
        ],
    }


def of_json(found: Mapping[str, Any]) -> Instructed:
    """Return what was kept.

    Raises:
        UsageError: It is something else.
    """
    try:
        held = tuple(
            Instruction(
                str(each["id"]),
                tuple(Step(float(at), float(watts)) for at, watts in each["steps"]),
                math.inf if each["ends_s"] is None else float(each["ends_s"]),
            )
            for each in found["held"]
        )
        if any(not each.steps for each in held):
            raise ValueError("an instruction without steps")
        return replace(Instructed(held), issued_s=float(found["issued_s"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"instructions: asked for what was kept, found another: {error}") from None
