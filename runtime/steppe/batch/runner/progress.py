"""How far a job is, how fast it goes, and when it will be done."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steppe.batch.row import RowResult

WINDOW_S = 30.0
"""Time over which rates are taken, s."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a runner does per second.

    Attributes:
        rows_per_s: Rows that end.
        output_tps: Output tokens.
        draw_w: Energy of the rows, W; 0 if unknown.
    """

    rows_per_s: float = 0.0
    output_tps: float = 0.0
    draw_w: float = 0.0

    @property
    def tokens_per_joule(self) -> float | None:
        """Output tokens per joule; None if the energy is unknown."""
        return self.output_tps / self.draw_w if self.draw_w > 0 else None


@dataclass(frozen=True, slots=True)
class Finish:
    """When a job is expected to end.

    Attributes:
        at_epoch_s: The expectation, s since the Unix epoch; None if unknown.
        sure: Probability that it ends by its deadline, from 0 to 1, as the gateway says; None if
            it does not.
        spread_s: The end is within this of the expectation in 9 of 10 cases if rates go on as in
            the last half minute, s; None if unknown.
    """

    at_epoch_s: float | None = None
    sure: float | None = None
    spread_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a job is.

    Attributes:
        total: Rows of the job.
        done: Rows with a result, errors included.
        failed: Those of them that are errors.
        prompt_tokens: Prompt tokens of the rows done.
        cached_tokens: Those of them that a prefix cache held.
        output_tokens: Output tokens of the rows done.
        energy_j: Energy of the attempts that gave results, J.
        wasted_j: Energy of other attempts, J.
        energy_source: Where the joules are from; empty if unknown.
        outstanding: Rows at the gateway.
        allowed: Rows that it takes now; None if it does not say.
        reason: Why so many, in its word; or why the tenant cannot pay.
        gateway_tps: Output tokens per second that the gateway expects; None if it does not say.
        surplus_share: Share of the energy so far that supply above all other draw gave; None if
            unknown.
        rates: What happened in the last half minute.
        finish: When it will be done.
    """

    total: int
    done: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    energy_j: float
    wasted_j: float
    energy_source: str = ""
    outstanding: int = 0
    allowed: int | None = None
    reason: str = ""
    gateway_tps: float | None = None
    surplus_share: float | None = None
    rates: Rates = Rates()
    finish: Finish = Finish()

    @property
    def left(self) -> int:
        """Rows without a result."""
        return self.total - self.done


@dataclass(slots=True)
class RateMeter:
    """Rates over the last `WINDOW_S`.

    Attributes:
        begun_s: When it began, s.
    """

    begun_s: float
    _ends: deque[tuple[float, int, float]] = field(default_factory=deque)

    def add(self, now_s: float, result: RowResult) -> None:
        """Note a row that has ended."""
        self._ends.append((now_s, result.output_tokens, result.energy_j + result.wasted_j))
        self._forget(now_s)

    def rates(self, now_s: float) -> Rates:
        """Return the rates of now."""
        self._forget(now_s)
        span_s = max(1e-3, min(WINDOW_S, now_s - self.begun_s))
        tokens = sum(tokens for _, tokens, _ in self._ends)
        energy_j = sum(energy_j for _, _, energy_j in self._ends)
        return Rates(len(self._ends) / span_s, tokens / span_s, energy_j / span_s)

    def finish(self, now_s: float, epoch_s: float, left: int) -> Finish:
        """Return when so many rows will have ended at these rates, with its spread.

        Ends of rows count as a Poisson process, so that n of them say the rate with a relative
        standard error of 1/sqrt(n); the rows that are left add theirs.
        """
        rates = self.rates(now_s)
        if not left or rates.rows_per_s <= 0:
            return Finish(at_epoch_s=epoch_s if not left else None)
        left_s = left / rates.rows_per_s
        relative = math.sqrt(1 / len(self._ends) + 1 / left)
        return Finish(epoch_s + left_s, spread_s=1.645 * relative * left_s)

    def _forget(self, now_s: float) -> None:
        while self._ends and self._ends[0][0] < now_s - WINDOW_S:
            self._ends.popleft()


@dataclass(slots=True)
class SurplusMeter:
    """Which share of the energy of a job was surplus: supply above the draw of all others.

    Attributes:
        surplus_j: Energy of the job within the surplus, J.
        energy_j: Energy of the job while the supply was known, J.
    """

    surplus_j: float = 0.0
    energy_j: float = 0.0

    def add(self, power: Mapping[str, Any], batch_w: float, span_s: float) -> None:
        """Count some time.

        Args:
            power: The part `power` of the gateway's status.
            batch_w: Draw of the job, W.
            span_s: The time, s.
        """
        supply_w, draw_w = power.get("supply_w"), power.get("draw_w")
        if not isinstance(supply_w, int | float) or not isinstance(draw_w, int | float):
            return
        others_w = max(0.0, draw_w - batch_w)
        self.surplus_j += min(batch_w, max(0.0, supply_w - others_w)) * span_s
        self.energy_j += batch_w * span_s

    @property
    def share(self) -> float | None:
        """The share, from 0 to 1; None while unknown."""
        return self.surplus_j / self.energy_j if self.energy_j > 0 else None
