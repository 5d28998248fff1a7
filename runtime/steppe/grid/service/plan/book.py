"""What the plan has bought, and the work that waits: kept on disk, so that a restart goes on."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.grid.limits.limit import Limit
from steppe.grid.plan.series import DAY_S, Series, Times

KEPT_S = 2 * DAY_S
"""Positions older than this are forgotten, s."""


@dataclass(frozen=True, slots=True)
class Bought:
    """What was bought for a step.

    Attributes:
        begins_s: When the step begins, s since the Unix epoch.
        watts: Bought, W; below zero where sold.
    """

    begins_s: float
    watts: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """Work that waits, as planned.

    Attributes:
        tokens: Output tokens.
        due_s: When it is due, s since the Unix epoch.
    """

    tokens: float
    due_s: float


@dataclass(frozen=True, slots=True)
class Book:
    """What the plan has bought, and the work that waits.

    Attributes:
        step_s: Length of a step, s.
        bought: What was bought, in the order of time.
        waiting: Work that waits, the nearest deadline first.
        planned_s: Begin of the last step whose work is counted, s since the Unix epoch.
        day_ahead: Limit of the day that was bought and has not begun; None for none. It is handed
            over again with each plan, so that the loss of the link does not end it.
    """

    step_s: float
    bought: tuple[Bought, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    planned_s: float | None = None
    day_ahead: Limit | None = None

    def position(self) -> Series | None:
        """Return what was bought without a gap up to the last step; None for nothing."""
        found: list[Bought] = []
        for each in reversed(self.bought):
            if found and found[-1].begins_s - each.begins_s != self.step_s:
                break
            found.append(each)
        if not found:
            return None
        found.reverse()
        starts_s = tuple(each.begins_s for each in found)
        ends_s = starts_s[-1] + self.step_s
        return Series(starts_s, tuple(each.watts for each in found), ends_s)

    def watts(self, begins_s: float) -> float | None:
        """Return what was bought for a step, W; None for nothing."""
        return next((each.watts for each in self.bought if each.begins_s == begins_s), None)

    def with_bought(self, series: Series, now_s: float) -> Book:
        """Return it with what was bought for steps, in place of what was before."""
        new = [Bought(*each) for each in zip(series.starts_s, series.values, strict=True)]
        replaced = {each.begins_s for each in new}
        kept = [
            each
            for each in self.bought
            if each.begins_s not in replaced and each.begins_s > now_s - KEPT_S
        ]
        ordered = sorted([*kept, *new], key=lambda each: each.begins_s)
        return replace(self, bought=tuple(ordered))

    def has_day(self, times: Times) -> bool:
        """Whether all steps of a day are bought."""
        bought = {each.begins_s for each in self.bought}
        return all(at_s in bought for at_s in times)

    def after_step(self, came: Waiting, done_tokens: float, now_s: float) -> Book:
        """Return it after a step as planned: some work came, and some was done."""
        waiting = sorted([*self.waiting, came], key=lambda each: each.due_s)
        left: list[Waiting] = []
        for each in waiting:
            done = min(done_tokens, each.tokens)
            done_tokens -= done
            if each.tokens - done > 1.0 and each.due_s > now_s:
                left.append(replace(each, tokens=each.tokens - done))
        return replace(self, waiting=tuple(left))


_BOOK: TypeAdapter[Book] = TypeAdapter(Book)


def read_book(path: Path, step_s: float) -> Book:
    """Return the book that was kept; an empty one if there is none for steps of this length.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        found = _BOOK.validate_json(path.read_bytes())
    except FileNotFoundError:
        return Book(step_s)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except ValidationError as error:
        asked = "asked for the book of the plan"
        raise UsageError(f"{path}: {asked}, found {error.error_count()} errors in it") from error
    return found if found.step_s == step_s else Book(step_s)


def write_book(path: Path, book: Book) -> None:
    """Replace the file.

    Raises:
        DiskFullError: No space is left.
        UsageError: It cannot be written.
    """
    draft = path.with_name(path.name + ".draft")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(_BOOK.dump_json(book))
        os.replace(draft, path)
