"""SLO stage: a reserve of capacity that measured latency raises and lowers.

A plan keeps the SLO by an approximation (`frontier.load_table`). What it misses comes back here:
while more requests than a small share miss the SLO and watts are free, the reserve rises quickly;
while hardly any does, it falls slowly. In a shortage it stays, because no reserve can help there.

Long prompts in a step delay all others in it. While requests miss the time per token rather than
the time to the first token, a step computes fewer tokens; the other way round, more.

If requests wait and miss the SLO while watts are unused for `GUARD_S`, the plan itself must be
wrong. Then the fleet runs at its ceiling, the most tokens within the watts, until the SLO is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from steppe.control.measurements import LatencyCounts
from steppe.control.plan import Plan
from steppe.control.state import Observation

MEMORY_S = 4.0
"""Time over which the share of missed requests is taken, s: what is over must not raise more."""
MOST_MISSED, FEW_MISSED = 0.02, 0.005
"""Share of missed requests above which the reserve rises, and below which it falls."""
RISE_PER_S, FASTEST = 0.03, 3.0
"""Rise of the reserve, share of the demand in a second, and how many times faster it rises if many
requests are missed."""
FALL_S = 40.0
"""Time in which the reserve falls to 1/e, s."""
MOST_RESERVE = 1.0
"""Largest reserve, share of the demand."""
CHANGE_S, LARGER_S = 15.0, 120.0
"""Least time between two changes of the tokens of a step, s, and time without a miss after which a
step becomes larger again: larger steps cost less energy."""
LEAST_TOKENS, MOST_TOKENS = 1024, 1 << 16
"""A step is not made smaller than the first, because its fixed cost would weigh too much, nor where
the engine has no limit of its own."""
CLEARLY = 2.0
"""One kind of miss is the problem if it is this much more frequent than the other."""
UNUSED_SHARE = 0.05
"""Watts beyond the draw that are unused, share of the budget."""
GUARD_MISSED = 0.05
"""Share of missed requests at which the guard counts."""
GUARD_S = 5.0
"""Time after which it acts, s. With a tick and a step of the engine, the fleet is at its ceiling
within 10 s."""
RECOVERED_S = 10.0
"""Time for which the SLO must be kept before it ends, s."""

NONE_COUNTED = LatencyCounts()


@dataclass(frozen=True, slots=True)
class SloMemory:
    """What the stage keeps between ticks.

    Attributes:
        now_s: Time of the last tick, s; None before the first.
        last: Counts at the last tick.
        judged: Requests that were judged lately, with a memory of `MEMORY_S`.
        missed: Those of them that missed the SLO.
        late: Requests whose first token came too late, with the same memory.
        slow: Requests whose tokens came too slowly, with the same memory.
        reserve: Capacity above the demand, share of it.
        has_watts: Whether the last plan left watts of its own accord.
        missed_s: How long requests have missed the SLO beside unused watts, s.
        kept_s: How long the SLO has been kept since, s.
        at_ceiling: Whether the guard acts.
        halvings: How often the tokens of a step are halved.
        changed_s: Time of the last change of the tokens of a step, s.
    """

    now_s: float | None = None
    last: LatencyCounts = NONE_COUNTED
    judged: float = 0.0
    missed: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    reserve: float = 0.0
    has_watts: bool = True
    missed_s: float = 0.0
    kept_s: float = 0.0
    at_ceiling: bool = False
    halvings: int = 0
    changed_s: float = 0.0

    def tokens_per_step(self, engine_tokens: int) -> int:
        """Return the most tokens of a step; 0 for the engine's own limit, tokens."""
        return engine_tokens >> self.halvings if self.halvings else 0

    @property
    def missed_share(self) -> float:
        """Share of the requests that missed the SLO lately; 0 without any."""
        return self.missed / self.judged if self.judged >= 1 else 0.0


def learn_slo(observation: Observation, memory: SloMemory, engine_tokens: int = 0) -> SloMemory:
    """Return the memory after comparing measured latency with the SLO.

    Args:
        observation: The fleet, with the requests against the SLO.
        memory: What was kept at the last tick.
        engine_tokens: The engine's own limit of tokens in a step; 0 if unknown.
    """
    counts, now_s = observation.latency, observation.now_s
    if counts is None:
        return memory
    if memory.now_s is None or _has_restarted(counts, memory.last):
        return replace(memory, now_s=now_s, last=counts)
    passed_s = now_s - memory.now_s
    memory = _count(memory, counts, passed_s)
    memory = replace(memory, now_s=now_s, last=counts)
    memory = replace(memory, reserve=_reserve(memory, passed_s))
    memory = _choose_tokens(memory, now_s, engine_tokens)
    return _guard(observation, memory, passed_s)


def note_watts(memory: SloMemory, plan: Plan, usable_w: float) -> SloMemory:
    """Return the memory with whether a plan leaves watts: then a larger reserve could be had."""
    return replace(memory, has_watts=plan.draw_w < (1 - UNUSED_SHARE) * usable_w)


def _has_restarted(counts: LatencyCounts, last: LatencyCounts) -> bool:
    return counts.first_tokens < last.first_tokens or counts.ended < last.ended


def _count(memory: SloMemory, counts: LatencyCounts, passed_s: float) -> SloMemory:
    """Return the memory with the requests that were judged since the last tick.

    Those that are overdue have missed it already; they count in each second until they get their
    token, so that a queue that grows is seen at once.
    """
    last, kept = memory.last, math.exp(-passed_s / MEMORY_S)
    late, slow = counts.late - last.late, counts.slow - last.slow
    judged = counts.first_tokens - last.first_tokens + counts.overdue * passed_s
    missed = late + counts.overdue * passed_s
    # A request that ended is judged for its speed, which one that began was not yet.
    ended = counts.ended - last.ended
    memory = replace(memory, late=memory.late * kept + missed, slow=memory.slow * kept + slow)
    if ended and slow / ended > (missed / judged if judged else 0.0):
        judged, missed = judged + ended, missed + slow
    return replace(
        memory, judged=memory.judged * kept + judged, missed=memory.missed * kept + missed
    )


def _reserve(memory: SloMemory, passed_s: float) -> float:
    missed = memory.missed_share
    if missed > MOST_MISSED:
        if memory.at_ceiling or not memory.has_watts:
            return memory.reserve
        faster = min(FASTEST, missed / MOST_MISSED)
        return min(MOST_RESERVE, memory.reserve + faster * RISE_PER_S * passed_s)
    if missed < FEW_MISSED:
        return memory.reserve * math.exp(-passed_s / FALL_S)
    return memory.reserve


def _choose_tokens(memory: SloMemory, now_s: float, engine_tokens: int) -> SloMemory:
    """Return the memory with larger or smaller steps, if one kind of miss is the problem."""
    if not 0 < engine_tokens <= MOST_TOKENS or now_s - memory.changed_s < CHANGE_S:
        return memory
    halvings, waited_s = memory.halvings, now_s - memory.changed_s
    if memory.missed_share > MOST_MISSED:
        if memory.slow > CLEARLY * memory.late and engine_tokens >> (halvings + 1) >= LEAST_TOKENS:
            return replace(memory, halvings=halvings + 1, changed_s=now_s)
        if memory.late > CLEARLY * memory.slow and halvings:
            return replace(memory, halvings=halvings - 1, changed_s=now_s)
        return memory
    if halvings and waited_s > LARGER_S and memory.missed_share < FEW_MISSED:
        return replace(memory, halvings=halvings - 1, changed_s=now_s)
    return memory


def _guard(observation: Observation, memory: SloMemory, passed_s: float) -> SloMemory:
    waits = observation.work_waits or observation.engine_queue > 0
    is_missed = memory.missed_share > GUARD_MISSED
    draw_w = observation.draw_w
    has_unused = draw_w is not None and draw_w < (1 - UNUSED_SHARE) * observation.gpu_budget_w
    missed_s = memory.missed_s + passed_s if waits and is_missed and has_unused else 0.0
    kept_s = 0.0 if is_missed else memory.kept_s + passed_s
    at_ceiling = missed_s >= GUARD_S or (memory.at_ceiling and kept_s < RECOVERED_S)
    return replace(memory, missed_s=missed_s, kept_s=kept_s, at_ceiling=at_ceiling)
