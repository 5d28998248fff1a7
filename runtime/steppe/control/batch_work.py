"""Batch work: quantities of tokens that may wait, and how fast the plan lets each of them run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

RESERVE_SHARE, LEAST_RESERVE = 0.1, 2
"""Rows that wait ahead of the places, share of them, and how many at least: while an answer is on
its way back to the runner, its place is taken by one of these."""


class When(StrEnum):
    """When the rows of a job may run."""

    NOW = "now"
    """At once, on any power of the budget."""
    DEADLINE = "deadline"
    """Steadily, so that the deadline is kept; faster on surplus."""
    SURPLUS = "surplus"
    """On surplus; on other power only as far as the deadline needs."""


class PaceReason(StrEnum):
    """Why a job runs as fast as it does, or does not run."""

    HEADROOM = "headroom"
    SURPLUS = "surplus"
    DEADLINE = "deadline"
    NOW = "now"
    WAITS_FOR_SURPLUS = "waits_for_surplus"
    NO_POWER = "no_power"


@dataclass(frozen=True, slots=True)
class BatchWork:
    """The rows of one job that are not finished, as its runner declares them.

    Attributes:
        id: Name of the job, unique for its tenant.
        tenant: Its tenant.
        model: The model that serves it, by the name that clients use.
        rows: Rows that are not finished.
        prompt_tokens: Prompt tokens of these rows, an estimate.
        output_tokens: Output tokens that are still to come, an estimate.
        due_in_s: Time until the deadline, s; None without one.
        when: When it may run.
    """

    id: str
    tenant: str
    model: str
    rows: int
    prompt_tokens: float
    output_tokens: float
    due_in_s: float | None = None
    when: When = When.SURPLUS

    @property
    def key(self) -> str:
        """Its name among the jobs of all tenants."""
        return f"{self.tenant}/{self.id}"


@dataclass(frozen=True, slots=True)
class BatchPace:
    """How fast a job runs until the next plan.

    Attributes:
        tokens_per_s: Output tokens per second that the plan counts on; 0 while it waits.
        share: Its part of the places that firm requests leave to its model, from 0 to 1.
        reason: Why.
        finish_in_s: Expected time until its last row, s; None if the forecast does not reach it.
        sure: Probability that the deadline is kept, from 0 to 1; None without a deadline.
    """

    tokens_per_s: float
    share: float
    reason: PaceReason
    finish_in_s: float | None = None
    sure: float | None = None

    @property
    def runs(self) -> bool:
        """Whether rows may be sent."""
        return self.share > 0


def outstanding_rows(work: BatchWork, pace: BatchPace, places: int, firm: int) -> int:
    """Return how many rows of a job may be open: no place idles, and few rows wait.

    Firm requests go first wherever they wait, so rows may fill every place that they leave.

    Args:
        work: The job.
        pace: Its pace.
        places: Places of the awake replicas of its model.
        firm: Open requests for the model that are not deferrable.
    """
    if not pace.runs:
        return 0
    reserve = max(LEAST_RESERVE, math.ceil(RESERVE_SHARE * pace.share * places))
    own = math.ceil(pace.share * max(0, places - firm))
    return min(work.rows, own + reserve)
