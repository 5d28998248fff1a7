"""What became of the rows of a job whose processes were killed, for `batch_crashes.py`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from batch_witness import Sending, Witness

COMMIT_S = 1.0
"""A result that came so long before a kill may not have been written yet, s; groups are written
every 0.2 s."""


@dataclass
class Kill:
    """One kill.

    Attributes:
        what: The process.
        at_s: When, s on the monotonic clock.
        stored: Rows that had a result in the store.
    """

    what: str
    at_s: float
    stored: frozenset[int]


@dataclass(frozen=True, slots=True)
class FileCounts:
    """What is in the files of a job.

    Attributes:
        missing: Rows in neither output nor errors.
        repeated: Rows that are there more than once.
        torn: Lines of the files that are no JSON.
        in_output: Rows in the output.
        in_errors: Rows in the error file.
    """

    missing: int
    repeated: int
    torn: int
    in_output: int
    in_errors: int


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What was computed in vain.

    Attributes:
        answers: Answers that are no result, because a process was killed before it was written.
        unexplained: Those that came long before any kill.
        oldest_s: How long before a kill the oldest such answer came, s.
        after_result: Sendings of rows whose result the store had; None where no door saw them.
    """

    answers: int
    unexplained: int
    oldest_s: float
    after_result: int | None


def recomputed_from(
    ages_s: Sequence[float], longest_s: float, after_result: int | None
) -> Recomputed:
    """Return what was computed in vain, by how long before a kill each answer came, s."""
    late = sum(age_s > longest_s for age_s in ages_s)
    return Recomputed(len(ages_s), late, max(ages_s, default=0.0), after_result)


def count_files(folder: Path) -> FileCounts:
    """Compare `out.jsonl` and `out.errors.jsonl` of a folder with its `in.jsonl`."""
    output, torn_output = _ids(folder / "out.jsonl")
    errors, torn_errors = _ids(folder / "out.errors.jsonl")
    seen = Counter(output + errors)
    return FileCounts(
        missing=sum(seen[name] == 0 for name in _expected(folder)),
        repeated=sum(times > 1 for times in seen.values()),
        torn=torn_output + torn_errors,
        in_output=len(output),
        in_errors=len(errors),
    )


def seen_by(witness: Witness, kills: Sequence[Kill]) -> Recomputed:
    """Return what the door saw."""
    by_row = witness.by_row()
    late = sum(_sent_after(by_row, kill) for kill in kills)
    of_runner_s = [kill.at_s for kill in kills if kill.what == "runner"]
    return recomputed_from(list(_lost_ages_s(by_row, of_runner_s)), COMMIT_S, late)


def _expected(folder: Path) -> Iterator[str]:
    """Yield the custom ids of the input; a torn line has none of its own."""
    for number, line in enumerate((folder / "in.jsonl").read_bytes().splitlines()):
        try:
            yield json.loads(line)["custom_id"]
        except json.JSONDecodeError:
            yield f"row-{number}"


def _ids(path: Path) -> tuple[list[str], int]:
    """Return the custom ids of a file, and how many of its lines are torn."""
    ids, torn = [], 0
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            ids.append(json.loads(line)["custom_id"])
        except json.JSONDecodeError:
            torn += 1
    return ids, torn


def _sent_after(by_row: dict[int, list[Sending]], kill: Kill) -> int:
    """Return how often rows were sent after a kill at which the store had their result."""
    again = (sending for row in kill.stored for sending in by_row.get(row, ()))
    return sum(sending.began_s > kill.at_s for sending in again)


def _lost_ages_s(by_row: dict[int, list[Sending]], kills_s: Sequence[float]) -> Iterator[float]:
    """Yield for each answer that was followed by another sending how long before a kill it came."""
    for sendings in by_row.values():
        for earlier, later in pairwise(sendings):
            if earlier.is_answered:
                between_s = [at_s for at_s in kills_s if earlier.began_s <= at_s <= later.began_s]
                first_s = min(between_s, default=float("inf"))
                yield max(0.0, first_s - earlier.ended_s)
