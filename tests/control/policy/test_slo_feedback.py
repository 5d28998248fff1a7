"""The reserve that missed SLOs raise, and the guard that takes a fleet to its ceiling."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.measurements import LatencyCounts
from steppe.control.plan import Plan
from steppe.control.policy.slo_feedback import (
    FALL_S,
    GUARD_S,
    LARGER_S,
    LEAST_TOKENS,
    MOST_RESERVE,
    NONE_COUNTED,
    RECOVERED_S,
    SloMemory,
    learn_slo,
    note_watts,
)
from steppe.control.state import Observation

BUDGET_W, NOTHING_KEPT = 1000.0, SloMemory()
NO_SHORTAGE, SHORTAGE = Plan((), 500.0), Plan((), 990.0)


@dataclass
class Site:
    """Running totals of a fleet, and what the stage keeps of them."""

    counts: LatencyCounts = NONE_COUNTED
    memory: SloMemory = NOTHING_KEPT
    now_s: float = 0.0
    engine_tokens: int = 0

    def tick(
        self,
        requests: int = 20,
        missed: float = 0.0,
        *,
        slow: float = 0.0,
        overdue: int = 0,
        waiting: int = 0,
        engine_queue: int = 0,
        draw_w: float | None = 500.0,
        plan: Plan = NO_SHORTAGE,
    ) -> SloMemory:
        """Let a second pass in which these shares of the requests were late, or slow."""
        counts = self.counts
        self.counts = LatencyCounts(
            counts.first_tokens + requests,
            counts.late + round(missed * requests),
            counts.ended + requests,
            counts.slow + round(slow * requests),
            overdue,
        )
        self.now_s += 1.0
        observation = Observation(
            *(self.now_s, BUDGET_W, draw_w, 100.0, waiting, ()),
            engine_queue=engine_queue,
            latency=self.counts,
        )
        memory = learn_slo(observation, self.memory, self.engine_tokens)
        self.memory = note_watts(memory, plan, BUDGET_W)
        return self.memory


def ticks_until(site: Site, reached: str, most: int, **each: object) -> int:
    """Return after how many seconds an attribute of the memory is true, or that it never was."""
    for second in range(1, most + 1):
        if getattr(site.tick(**each), reached):  # type: ignore[arg-type]
            return second
    raise AssertionError(f"{reached} was not reached in {most} s")


def started() -> Site:
    site = Site()
    site.tick()
    return site


@pytest.mark.parametrize(("missed", "slow"), [(0.3, 0.0), (0.0, 0.3)])
def test_the_reserve_rises_within_seconds_while_requests_miss_the_slo(
    missed: float, slow: float
) -> None:
    site = started()
    for _ in range(5):
        site.tick(missed=missed, slow=slow)
    assert 0.2 < site.memory.reserve < 0.5


def test_a_few_missed_requests_raise_it_slower_than_many() -> None:
    few, many = started(), started()
    for _ in range(5):
        few.tick(requests=1000, missed=0.03)
        many.tick(requests=1000, missed=0.5)
    assert 0 < few.memory.reserve < many.memory.reserve


def test_requests_that_wait_beyond_the_slo_count_before_their_first_token() -> None:
    site = started()
    for _ in range(5):
        site.tick(requests=0, overdue=50)
    assert site.memory.reserve > 0.2


def test_it_does_not_rise_where_the_plan_takes_all_watts() -> None:
    site = started()
    site.tick(plan=SHORTAGE)
    for _ in range(60):
        site.tick(missed=0.9, waiting=50, draw_w=990.0, plan=SHORTAGE)
    assert site.memory.reserve == 0.0


def test_a_reserve_of_before_a_shortage_is_there_after_it() -> None:
    site = started()
    for _ in range(8):
        site.tick(missed=0.3)
    for _ in range(3):
        site.tick(missed=0.3, plan=SHORTAGE)
    before = site.memory.reserve
    for _ in range(300):
        site.tick(missed=0.9, waiting=50, draw_w=990.0, plan=SHORTAGE)
    assert site.memory.reserve == before > 0.2


def test_it_falls_slowly_while_the_slo_is_kept() -> None:
    site = started()
    for _ in range(20):
        site.tick(missed=0.3)
    for _ in range(30):  # what was missed is forgotten first
        site.tick()
    before = site.memory.reserve
    for _ in range(round(FALL_S)):
        site.tick()
    assert site.memory.reserve == pytest.approx(before / 2.718, rel=0.01)
    for _ in range(400):
        site.tick()
    assert site.memory.reserve < 0.01


def test_it_stays_where_a_tolerable_share_of_requests_is_missed() -> None:
    site = started()
    for _ in range(5):
        site.tick(requests=1000, missed=0.3)
    for _ in range(30):
        site.tick(requests=1000, missed=0.01)
    before = site.memory.reserve
    for _ in range(100):
        site.tick(requests=1000, missed=0.01)
    assert site.memory.reserve == before > 0


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "requests": st.integers(0, 50),
                "missed": st.floats(0, 1),
                "slow": st.floats(0, 1),
                "overdue": st.integers(0, 200),
                "waiting": st.integers(0, 50),
                "draw_w": st.one_of(st.none(), st.floats(0, 1500)),
                "plan": st.sampled_from([NO_SHORTAGE, SHORTAGE]),
            }
        ),
        max_size=80,
    )
)
def test_it_is_bounded_and_no_share_is_above_one(seconds: list[dict[str, object]]) -> None:
    site = started()
    for each in seconds:
        memory = site.tick(**each)  # type: ignore[arg-type]
        assert 0 <= memory.reserve <= MOST_RESERVE
        assert 0 <= memory.missed_share <= 1


def test_unknown_latency_changes_nothing() -> None:
    site = started()
    observation = Observation(9.0, BUDGET_W, 500.0, 100.0, 9, ())
    assert learn_slo(observation, site.memory) is site.memory


def test_totals_that_begin_anew_are_no_missed_requests() -> None:
    site = started()
    for _ in range(10):
        site.tick()
    site.counts = LatencyCounts(3, 3, 3, 3)
    site.tick(requests=0)
    assert site.memory.missed == 0.0
    assert site.memory.reserve == 0.0
    for _ in range(3):
        site.tick(missed=0.5)
    assert site.memory.reserve > 0


WRONGED = {"missed": 0.5, "waiting": 9}


@pytest.mark.parametrize("where", ["waiting", "engine_queue"])
def test_the_guard_acts_where_requests_wait_and_miss_the_slo_beside_unused_watts(
    where: str,
) -> None:
    assert ticks_until(started(), "at_ceiling", 10, missed=0.5, **{where: 9}) <= GUARD_S + 2


def test_it_ends_once_the_slo_is_kept() -> None:
    site = started()
    ticks_until(site, "at_ceiling", 10, **WRONGED)
    seconds = 0
    while site.tick().at_ceiling:
        seconds += 1
    assert RECOVERED_S <= seconds <= RECOVERED_S + 25


def test_it_lasts_while_the_slo_is_missed_although_all_watts_are_used_now() -> None:
    site = started()
    ticks_until(site, "at_ceiling", 10, **WRONGED)
    assert all(site.tick(missed=0.5, waiting=9, draw_w=999.0).at_ceiling for _ in range(60))


@pytest.mark.parametrize(
    "each",
    [
        {"missed": 0.5, "waiting": 9, "draw_w": 980.0},  # no watts are unused
        {"missed": 0.5},  # none waits: more watts do not help
        {"missed": 0.0, "waiting": 9},
        {"missed": 0.5, "waiting": 9, "draw_w": None},
    ],
)
def test_it_does_not_act_otherwise(each: dict[str, object]) -> None:
    site = started()
    assert not any(site.tick(**each).at_ceiling for _ in range(60))  # type: ignore[arg-type]


def test_a_reserve_does_not_wind_up_at_the_ceiling() -> None:
    site = started()
    ticks_until(site, "at_ceiling", 10, **WRONGED)
    before = site.memory.reserve
    for _ in range(60):
        site.tick(missed=0.5, waiting=9)
    assert site.memory.reserve == before


ENGINE_TOKENS = 4096


def with_tokens(site: Site, seconds: int, **each: object) -> int:
    """Return the tokens of a step after seconds in an engine that allows `ENGINE_TOKENS`."""
    site.engine_tokens = ENGINE_TOKENS
    for _ in range(seconds):
        site.tick(**each)  # type: ignore[arg-type]
    return site.memory.tokens_per_step(ENGINE_TOKENS)


def test_steps_become_smaller_while_tokens_come_too_slowly_but_not_below_a_least_size() -> None:
    site = started()
    assert with_tokens(site, 10, slow=0.3) == 0  # the engine's own limit
    assert with_tokens(site, 10, slow=0.3) == ENGINE_TOKENS / 2
    assert with_tokens(site, 120, slow=0.3) == LEAST_TOKENS


def test_they_become_larger_again_while_first_tokens_come_too_late() -> None:
    site = started()
    with_tokens(site, 60, slow=0.3)
    assert with_tokens(site, 60, missed=0.3) == 0


def test_they_become_larger_again_once_the_slo_has_been_kept_for_long() -> None:
    site = started()
    assert with_tokens(site, 16, slow=0.3) == ENGINE_TOKENS / 2
    assert with_tokens(site, round(LARGER_S) - 20) == ENGINE_TOKENS / 2
    assert with_tokens(site, 40) == 0


def test_they_stay_where_both_kinds_of_miss_are_alike_or_the_limit_is_unknown() -> None:
    assert with_tokens(started(), 120, missed=0.3, slow=0.4) == 0
    site = started()
    for _ in range(120):
        site.tick(slow=0.3)
    assert site.memory.halvings == 0
