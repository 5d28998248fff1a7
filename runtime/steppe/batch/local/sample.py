"""What a whole job will take, by a sample of its rows."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import t as student_t

from steppe.batch.row import BadRow, Row, RowResult
from steppe.errors import UsageError

CONFIDENCE = 0.9
"""Share of samples whose interval contains what the whole job takes, if rows are alike enough."""


@dataclass(frozen=True, slots=True)
class RowSample:
    """Some rows of an input, each with the same chance.

    Attributes:
        rows: The rows, in the order of the input.
        total: Rows of the input that are requests.
        bad: Lines of the input that are none.
    """

    rows: tuple[Row, ...]
    total: int
    bad: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A quantity with what it may be.

    Attributes:
        value: The expectation.
        low: The end below, at `CONFIDENCE`.
        high: The end above.
    """

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        """Return it in another unit."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job is expected to take.

    Attributes:
        rows: Its rows.
        bad: Lines of its input that are no requests.
        sampled: Rows of the sample that were answered.
        failed: Rows of the sample that were not.
        prompt_tokens: Prompt tokens.
        output_tokens: Output tokens.
        energy_j: Energy, J; None if the gateway does not say.
        energy_source: Where the joules are from.
        duration_s: Time at the speed of the sample, or at that which the gateway expects, s.
        is_gateway_speed: Whether the gateway said its speed.
    """

    rows: int
    bad: int
    sampled: int
    failed: int
    prompt_tokens: Interval
    output_tokens: Interval
    energy_j: Interval | None
    energy_source: str
    duration_s: Interval
    is_gateway_speed: bool

    def shown(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {
            "rows": self.rows,
            "bad_rows": self.bad,
            "sample": {"rows": self.sampled, "failed": self.failed, "confidence": CONFIDENCE},
            "prompt_tokens": _shown(self.prompt_tokens),
            "output_tokens": _shown(self.output_tokens),
            "energy_j": _shown(self.energy_j),
            "energy_source": self.energy_source,
            "duration_s": _shown(self.duration_s),
            "speed": "gateway" if self.is_gateway_speed else "sample",
        }


def draw_sample(rows: Iterable[Row | BadRow], size: int, seed: int = 0) -> RowSample:
    """Return a sample of rows, with memory for no more than that (reservoir sampling)."""
    rng, kept, total, bad = random.Random(seed), list[Row](), 0, 0
    for row in rows:
        if isinstance(row, BadRow):
            bad += 1
            continue
        total += 1
        if len(kept) < size:
            kept.append(row)
        elif (place := rng.randrange(total)) < size:
            kept[place] = row
    return RowSample(tuple(sorted(kept, key=lambda row: row.number)), total, bad)


def estimate(
    sample: RowSample, results: Sequence[RowResult], gateway_tps: float | None
) -> Estimate:
    """Return what all rows will take.

    Args:
        sample: The sample.
        results: What became of its rows.
        gateway_tps: Output tokens/s that the gateway expects for the job; None if it does not say.

    Raises:
        UsageError: No row of the sample was answered.
    """
    answered = [result for result in results if not result.failed]
    if not answered:
        reasons = {result.error or f"status {result.status}" for result in results}
        found = "; ".join(sorted(reasons)[:3]) or "no row"
        raise UsageError(f"asked for a sample of answers, found none: {found}")
    output = _total(sample, [result.output_tokens for result in answered])
    metered = [result.energy_j for result in answered if result.energy_source]
    begun_s = min(result.started_epoch_s for result in answered)
    lasted_s = max(1e-3, max(result.ended_epoch_s for result in answered) - begun_s)
    if gateway_tps:
        duration = output.times(1 / gateway_tps)
    else:
        each_s = lasted_s / len(answered)
        spread = output.times(1 / output.value) if output.value else Interval(1.0, 1.0, 1.0)
        duration = spread.times(each_s * sample.total)
    return Estimate(
        rows=sample.total,
        bad=sample.bad,
        sampled=len(answered),
        failed=len(results) - len(answered),
        prompt_tokens=_total(sample, [result.prompt_tokens for result in answered]),
        output_tokens=output,
        energy_j=_total(sample, metered) if metered else None,
        energy_source=next((r.energy_source for r in answered if r.energy_source), ""),
        duration_s=duration,
        is_gateway_speed=bool(gateway_tps),
    )


def _total(sample: RowSample, values: Sequence[float]) -> Interval:
    """Return the sum over all rows by the values of some, with Student's t interval.

    The part of the rows that the sample contains is known, so that the interval of a sample of all
    rows has no width (finite population correction).
    """
    count, mean = len(values), sum(values) / len(values)
    if count < 2:
        high = math.inf if sample.total > count else mean
        return Interval(mean * sample.total, 0.0 if sample.total > count else mean, high)
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    unknown = max(0.0, 1 - count / sample.total)
    error = math.sqrt(variance / count * unknown)
    half = float(student_t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    low, high = max(0.0, mean - half), mean + half
    return Interval(mean, low, high).times(sample.total)


def _shown(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    high = interval.high if math.isfinite(interval.high) else None
    return {"value": interval.value, "low": interval.low, "high": high}
