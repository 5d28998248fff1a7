"""A job: many rows with one deadline, and how far they are."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from steppe.control.batch_work import When

__all__ = [
    "ENDED",
    "OPEN",
    "ExportMark",
    "Job",
    "JobState",
    "JobTotals",
    "RowCounts",
    "StoredFile",
    "When",
    "new_file_id",
    "new_job_id",
]


class JobState(StrEnum):
    """States of a batch in OpenAI's API."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self in ENDED


ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED})
OPEN = tuple(state for state in JobState if state not in ENDED)


@dataclass(frozen=True, slots=True)
class Job:
    """A job, without its rows.

    Attributes:
        id: `batch_...`.
        tenant: The tenant that pays; empty for a run without tenants.
        model: The model of its rows; empty if each row names its own.
        endpoint: Path of the API for rows that name none.
        when: `now`; before its deadline, in surplus as far as possible; or in surplus only.
        created_epoch_s: When it was made, s.
        completion_window_s: Time from there to the deadline, s; None without one.
        deadline_epoch_s: When it expires, s; None without one.
        input: Path or file id of the input.
        input_digest: SHA-256 of the input's bytes, in hex; empty if unknown.
        output: Path or file id of the output.
        error_output: Path or file id of the error file.
        metadata: The client's own pairs.
        settings: What a runner needs to resume, as JSON.
        state: Where it is.
        entered: When it entered each state, s since the epoch.
        error: Why it failed, one line.
    """

    id: str
    tenant: str
    model: str
    endpoint: str
    when: When
    created_epoch_s: float
    completion_window_s: float | None = None
    deadline_epoch_s: float | None = None
    input: str = ""
    input_digest: str = ""
    output: str = ""
    error_output: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    state: JobState = JobState.VALIDATING
    entered: Mapping[JobState, float] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows of a job are where.

    Attributes:
        total: All that were read.
        waiting: Those that no runner has.
        running: Those that a runner has.
        completed: Those with an answer.
        failed: Those in the error file.
    """

    total: int = 0
    waiting: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def finished(self) -> int:
        """Rows that need no more work."""
        return self.completed + self.failed


@dataclass(frozen=True, slots=True)
class JobTotals:
    """What the finished rows of a job took.

    Attributes:
        prompt_tokens: Tokens of all prompts.
        cached_tokens: Those of them that came from the prefix cache.
        output_tokens: Tokens of all answers.
        energy_j: Energy of the attempts that succeeded, J.
        wasted_j: Energy of all others, J.
        first_started_epoch_s: When the first row began, s; None before.
        last_ended_epoch_s: When the last row ended, s; None before.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    energy_j: float = 0.0
    wasted_j: float = 0.0
    first_started_epoch_s: float | None = None
    last_ended_epoch_s: float | None = None


@dataclass(frozen=True, slots=True)
class ExportMark:
    """How far an output file has got.

    Attributes:
        position: The last result in it: a sequence, or in input order a row's number + 1.
        offset: Bytes of the file that hold the results up to there.
        rows: Lines in those bytes.
    """

    position: int = 0
    offset: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the Batch API; its content lies in the folder of the store.

    Attributes:
        id: `file-...`.
        tenant: Whose it is.
        purpose: `batch`, or `batch_output` for what a job wrote.
        filename: The client's name of it.
        size: Bytes.
        created_epoch_s: When it was made, s.
        expires_epoch_s: When it may be deleted, s; None if never.
    """

    id: str
    tenant: str
    purpose: str
    filename: str
    size: int
    created_epoch_s: float
    expires_epoch_s: float | None = None


def new_job_id() -> str:
    """Return a new id of a job."""
    return f"batch_{secrets.token_hex(12)}"


def new_file_id() -> str:
    """Return a new id of a file."""
    return f"file-{secrets.token_hex(12)}"
