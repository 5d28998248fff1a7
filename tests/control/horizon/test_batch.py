"""How fast batch work runs now, by its deadlines and the forecast of the surplus."""

from __future__ import annotations

import numpy as np
import pytest

from steppe.control.batch_work import BatchPace, BatchWork, PaceReason, When
from steppe.control.horizon.batch import BatchOutlook, BatchPlan, plan_batch
from steppe.control.horizon.capacity import Capacity
from steppe.control.horizon.forecast_error import LEAST_SAMPLES, ForecastErrors
from steppe.frontier.pareto import Frontier

STEP_S, REPLICAS, STEPS = 900.0, 4, 24
NONE_W = np.zeros(STEPS)


def job(tokens: float, due_steps: float | None = None, **changes: object) -> BatchWork:
    due_s = None if due_steps is None else due_steps * STEP_S
    values = {"id": "j", "tenant": "t", "model": "m", "rows": 100, "prompt_tokens": 0.0}
    return BatchWork(**{**values, "output_tokens": tokens, "due_in_s": due_s, **changes})  # type: ignore[arg-type]


def plan(
    frontier: Frontier,
    surplus_w: np.ndarray,
    *jobs: BatchWork,
    firm_w: np.ndarray = NONE_W,
    certain_w: np.ndarray | None = None,
    firm_tps: float = 0.0,
) -> BatchPlan:
    outlook = BatchOutlook(
        STEP_S,
        budget_w=surplus_w + firm_w,
        surplus_w=surplus_w,
        certain_w=firm_w if certain_w is None else certain_w,
        firm_tps=firm_tps,
        most_firm_tps=firm_tps,
    )
    return plan_batch(frontier, REPLICAS, outlook, jobs)


@pytest.fixture
def full_w(frontier: Frontier) -> np.ndarray:
    """The full draw of all replicas in every step, W."""
    return np.full(STEPS, REPLICAS * frontier.full.draw_w)


@pytest.fixture
def full_tokens(frontier: Frontier) -> float:
    """What all replicas give in a step."""
    return REPLICAS * frontier.full.output_tps * STEP_S


def pace(found: BatchPlan, key: str = "t/j") -> BatchPace:
    return found.paces[key]


def test_work_uses_all_of_a_surplus_now(
    frontier: Frontier, full_w: np.ndarray, full_tokens: float
) -> None:
    found = plan(frontier, full_w, job(100 * full_tokens))
    assert pace(found).reason is PaceReason.SURPLUS
    assert pace(found).share == 1.0
    assert found.wants_w == full_w[0]


def test_work_waits_for_a_surplus_that_is_certain(
    frontier: Frontier, full_w: np.ndarray, full_tokens: float
) -> None:
    later = full_w.copy()
    later[:8] = 0.0
    found = plan(frontier, later, job(2 * full_tokens, 20), firm_w=full_w, certain_w=full_w + later)
    assert pace(found).reason is PaceReason.WAITS_FOR_SURPLUS
    assert (pace(found).share, found.must_w) == (0.0, 0.0)
    assert 9.9 * STEP_S <= (pace(found).finish_in_s or 0.0) <= 20 * STEP_S
    assert (pace(found).sure or 0.0) > 0.95


def test_work_begins_on_bought_power_when_a_later_start_could_be_too_late(
    frontier: Frontier, full_w: np.ndarray, full_tokens: float
) -> None:
    dark = np.zeros(STEPS)
    for due_steps, runs in ((20, False), (5, True)):
        found = plan(frontier, dark, job(4 * full_tokens, due_steps), firm_w=full_w)
        assert (found.must_w > 0) is runs
        expected = PaceReason.DEADLINE if runs else PaceReason.WAITS_FOR_SURPLUS
        assert pace(found).reason is expected


def test_a_forecast_of_surplus_that_is_not_certain_starts_work_in_time(
    frontier: Frontier, full_w: np.ndarray, full_tokens: float
) -> None:
    weak_w = full_w / 4
    later = full_w.copy()
    later[:2] = 0.0
    sure = plan(frontier, later, job(8 * full_tokens, 20), firm_w=weak_w, certain_w=later + weak_w)
    unsure = plan(frontier, later, job(8 * full_tokens, 20), firm_w=weak_w, certain_w=weak_w)
    assert (sure.must_w, pace(sure).share) == (0.0, 0.0)
    assert unsure.must_w > 0
    assert (pace(sure).sure or 0.0) > (pace(unsure).sure or 0.0)


def test_a_job_with_a_steady_pace_runs_no_faster_on_bought_power_than_its_deadline_needs(
    frontier: Frontier, full_w: np.ndarray, full_tokens: float
) -> None:
    steady = job(2 * full_tokens, 21, when=When.DEADLINE)
    found = plan(frontier, NONE_W, steady, firm_w=full_w)
    needed_tps = 2 * full_tokens / (20 * STEP_S)
    assert pace(found).tokens_per_s == pytest.approx(needed_tps, rel=0.1)
    assert pace(found).reason is PaceReason.DEADLINE


def test_a_job_for_now_takes_all_headroom(
    frontier: Frontier, full_w: np.ndarray, full_tokens: float
) -> None:
    found = plan(frontier, NONE_W, job(3 * full_tokens, when=When.NOW), firm_w=full_w)
    assert pace(found).reason is PaceReason.NOW
    assert found.must_w == pytest.approx(full_w[0])


def test_the_next_deadline_runs_first(
    frontier: Frontier, full_w: np.ndarray, full_tokens: float
) -> None:
    jobs = job(5 * full_tokens, 20, id="late"), job(0.25 * full_tokens, 10, id="soon")
    found = plan(frontier, full_w, *jobs)
    assert pace(found, "t/soon").tokens_per_s == pytest.approx(0.25 * full_tokens / STEP_S)
    assert pace(found, "t/soon").share == pytest.approx(0.25, rel=0.05)
    assert pace(found, "t/late").share == pytest.approx(0.75, rel=0.05)
    soon_s, late_s = pace(found, "t/soon").finish_in_s, pace(found, "t/late").finish_in_s
    assert soon_s is not None
    assert late_s is not None
    assert soon_s < late_s


def test_without_power_there_is_no_pace(frontier: Frontier) -> None:
    found = plan(frontier, NONE_W, job(1e5, 20))
    assert pace(found).reason is PaceReason.NO_POWER
    assert (pace(found).tokens_per_s, pace(found).finish_in_s) == (0.0, None)


def test_firm_requests_leave_less_to_batch_work(
    frontier: Frontier, full_w: np.ndarray, full_tokens: float
) -> None:
    half_tps = full_tokens / STEP_S / 2
    found = plan(frontier, full_w, job(100 * full_tokens), firm_tps=half_tps)
    assert pace(found).tokens_per_s == pytest.approx(half_tps, rel=0.01)


def test_the_capacity_is_the_hull_of_the_points(frontier: Frontier) -> None:
    capacity = Capacity.of(frontier, REPLICAS)
    full_w = REPLICAS * frontier.full.draw_w
    assert capacity.tps(np.array([0.0, full_w, 2 * full_w])).tolist() == pytest.approx(
        [0.0, capacity.most_tps, capacity.most_tps]
    )
    for tps in np.linspace(0.0, capacity.most_tps, 7):
        watts = capacity.watts(float(tps))
        assert float(capacity.tps(np.array([watts]))[0]) == pytest.approx(float(tps), abs=1e-6)


def test_a_forecast_is_not_trusted_before_it_was_compared_with_what_came() -> None:
    errors = ForecastErrors(1.0)
    assert errors.certain_w([5.0, 5.0]) == [5.0, 0.0]
    for second in range(LEAST_SAMPLES + 1):
        errors.note(float(second), [5.0, 5.0])
    assert errors.certain_w([5.0, 5.0]) == [5.0, 5.0]


def test_what_is_counted_on_falls_with_the_error_of_the_forecast() -> None:
    errors = ForecastErrors(1.0)
    for second in range(60):
        here = 8.0 if second % 4 else 5.0
        errors.note(float(second), [here, 8.0])
    assert errors.certain_w([8.0, 8.0]) == [8.0, 5.0]
