"""What engines and requests have measured: the work of steps, and latency against the SLO."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClockWork:
    """The steps that replicas ran at one clock in the last window, summed over replicas.

    Only replicas count whose clock limit did not change in the window, and that have a meter
    reading of it.

    Attributes:
        clock_mhz: SM clock limit, MHz; 0 if it cannot be set.
        steps: Engine steps.
        prefill_steps: Those of them that computed prompts.
        sequences: Decoding sequences, summed over the steps.
        prompt_tokens: Prompt tokens computed.
        context_tokens: Tokens of context of the decoding sequences, summed over the steps.
        busy_s: Time in which a step ran, s.
        energy_j: Energy while a step ran, J; the draw between steps does not count.
    """

    clock_mhz: int
    steps: float
    prefill_steps: float
    sequences: float
    prompt_tokens: float
    context_tokens: float
    busy_s: float
    energy_j: float


def summed_by_clock(works: Iterable[ClockWork]) -> tuple[ClockWork, ...]:
    """Return the work at each clock, summed, the lowest clock first."""
    found: defaultdict[int, list[ClockWork]] = defaultdict(list)
    for work in works:
        found[work.clock_mhz].append(work)
    return tuple(_summed(clock_mhz, found[clock_mhz]) for clock_mhz in sorted(found))


def _summed(clock_mhz: int, works: Sequence[ClockWork]) -> ClockWork:
    return ClockWork(
        clock_mhz=clock_mhz,
        steps=sum([work.steps for work in works]),
        prefill_steps=sum([work.prefill_steps for work in works]),
        sequences=sum([work.sequences for work in works]),
        prompt_tokens=sum([work.prompt_tokens for work in works]),
        context_tokens=sum([work.context_tokens for work in works]),
        busy_s=sum([work.busy_s for work in works]),
        energy_j=sum([work.energy_j for work in works]),
    )


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """Requests against the SLO: running totals, and how many are late now.

    Deferrable requests do not count.

    Attributes:
        first_tokens: Requests that got their first token.
        late: Those of them whose time to the first token exceeded the SLO.
        ended: Requests of two tokens or more that ended.
        slow: Those of them whose time per output token exceeded the SLO.
        overdue: Requests without a first token for longer than the SLO, now; no total.
    """

    first_tokens: int = 0
    late: int = 0
    ended: int = 0
    slow: int = 0
    overdue: int = 0
