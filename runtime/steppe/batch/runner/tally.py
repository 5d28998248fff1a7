"""The totals of a job while a runner works on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from steppe.batch.job import JobTotals, RowCounts
from steppe.batch.report.timeline import JobProgress
from steppe.batch.row import Claim, RowResult

_GUESSED_OUTPUT = 256
"""Output tokens of a row that names no limit, until the first rows have ended."""
_BYTES_PER_TOKEN = 4
_SAMPLE = 200
"""Rows whose bodies are read for the first guess."""


@dataclass(slots=True)
class Tally:
    """Rows, tokens and joules of a job, and what its other rows may still take.

    Attributes:
        counts: Rows, as the store counted them last, with those that ended since.
        totals: Tokens and joules of the rows that have ended.
        energy_source: Where the joules of the last rows are from; empty if unknown.
    """

    counts: RowCounts
    totals: JobTotals
    energy_source: str = ""
    _sampled: int = 0
    _prompt_guess: float = 0.0
    _output_guess: float = 0.0

    @property
    def left(self) -> int:
        """Rows without a result."""
        return max(0, self.counts.total - self.counts.finished)  # rows may still be added

    def see(self, claims: Sequence[Claim]) -> None:
        """Take the first guess of the tokens of rows from some of their bodies."""
        for claim in claims[: max(0, _SAMPLE - self._sampled)]:
            self._sampled += 1
            weight = 1 / self._sampled
            self._prompt_guess += weight * (
                len(claim.row.body) / _BYTES_PER_TOKEN - self._prompt_guess
            )
            self._output_guess += weight * (_most_output(claim.row.body) - self._output_guess)

    def add(self, results: Sequence[RowResult]) -> None:
        """Count rows that have ended."""
        failed = sum(result.failed for result in results)
        sources = [result.energy_source for result in results if result.energy_source]
        self.energy_source = sources[-1] if sources else self.energy_source
        old, totals = self.counts, self.totals
        self.counts = RowCounts(
            old.total,
            old.waiting,
            max(0, old.running - len(results)),
            old.completed + len(results) - failed,
            old.failed + failed,
        )
        self.totals = JobTotals(
            totals.prompt_tokens + sum(result.prompt_tokens for result in results),
            totals.cached_tokens + sum(result.cached_tokens for result in results),
            totals.output_tokens + sum(result.output_tokens for result in results),
            totals.energy_j + sum(result.energy_j for result in results),
            totals.wasted_j + sum(result.wasted_j for result in results),
            totals.first_started_epoch_s,
            totals.last_ended_epoch_s,
        )

    def tokens_left(self) -> tuple[int, int]:
        """Return the prompt and output tokens that the other rows are expected to have."""
        done = self.counts.completed
        if not done:
            return int(self._prompt_guess * self.left), int(self._output_guess * self.left)
        prompt, output = self.totals.prompt_tokens, self.totals.output_tokens
        return prompt * self.left // done, output * self.left // done

    def progress(self, outstanding: int, allowed: int | None, reason: str) -> JobProgress:
        """Return it as a point of a timeline."""
        return JobProgress(
            rows_done=self.counts.finished,
            rows_failed=self.counts.failed,
            prompt_tokens=self.totals.prompt_tokens,
            cached_tokens=self.totals.cached_tokens,
            output_tokens=self.totals.output_tokens,
            energy_j=self.totals.energy_j,
            wasted_j=self.totals.wasted_j,
            outstanding=outstanding,
            allowed=allowed,
            reason=reason,
        )


def _most_output(body: bytes) -> int:
    """Return the limit of output tokens that a body names, or a guess."""
    found = orjson.loads(body)
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        limit = found.get(name)
        if isinstance(limit, int) and limit > 0:
            return limit
    return 0 if "input" in found else _GUESSED_OUTPUT
