from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.virtual_replica import VirtualReplica

from steppe.device.gpu import LimitReason
from steppe.errors import DeviceError
from steppe.measure.sweep.point import (
    BLOCK,
    MeasurePlan,
    lengths_around,
    measure_point,
    outstanding,
    warm_up_for,
)
from steppe.measure.sweep.result import Flag, Phase, PointResult, Setting
from steppe.measure.sweep.subject import SubjectTotals

SETTING = Setting(Phase.MIXED, 1800, 8, 144, 26)
PLAN = MeasurePlan(windows=3, window_s=4.0, warm_up_s=2.0, longest_settle_s=8.0)


def measured(replica: VirtualReplica, setting: Setting = SETTING) -> PointResult:
    return measure_point(replica.rig, setting, PLAN, replica.timing)


def test_windows_are_back_to_back_and_have_the_requested_length(replica: VirtualReplica) -> None:
    result = measured(replica)
    assert len(result.windows) == 3
    for window in result.windows:
        assert window.duration_s == pytest.approx(4.0, abs=0.3)
        assert window.energy_j == pytest.approx(40 * window.duration_s)
    assert result.flags == ()
    assert result.estimates is not None
    assert result.estimates.draw_w.value == pytest.approx(40.0)


def test_more_requests_are_outstanding_than_the_batch_limit(
    replica: VirtualReplica,
) -> None:
    measured(replica)
    assert replica.settings == [(1800, 8)]
    assert replica.concurrency == outstanding(SETTING) > 8


def test_prefill_alone_keeps_a_whole_batch_waiting() -> None:
    assert outstanding(replace(SETTING, phase=Phase.PREFILL, batch_limit=16)) == 32


def test_a_mixed_batch_turns_over_once_before_the_first_window(replica: VirtualReplica) -> None:
    slow = Setting(Phase.MIXED, 1800, 8, 144, 100)
    assert measured(replica, slow).warm_up_s >= 10.0  # 100 tokens at 10 steps a second


def test_the_warm_up_ends_although_the_batch_never_turns_over(replica: VirtualReplica) -> None:
    endless = Setting(Phase.MIXED, 1800, 8, 144, 100_000)
    most_s = PLAN.longest_warm_up_s + PLAN.longest_settle_s + 1.0
    found = measured(replica, endless)
    assert found.warm_up_s <= most_s
    assert (found.flags, found.is_sound) == ((Flag.YOUNG,), True)


def test_prefill_alone_has_no_batch_to_turn_over(replica: VirtualReplica) -> None:
    prefill = Setting(Phase.PREFILL, 1800, 8, 144, 100_000)
    assert measured(replica, prefill).flags == ()


def test_long_outputs_get_the_time_in_which_they_turn_over() -> None:
    outputs = [replace(SETTING, output_tokens=tokens) for tokens in (26, 5000)]
    assert warm_up_for(outputs, PLAN) == replace(PLAN, longest_warm_up_s=250.0)
    assert warm_up_for(outputs[:1], PLAN) == PLAN


def test_meter_errors_of_inner_window_ends_cancel(replica: VirtualReplica) -> None:
    assert measured(replica).meter_error_j == pytest.approx(0.1)


def test_an_estimated_reading_adds_its_own_error(
    replica: VirtualReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, read = count(), replica.reading

    def reading() -> SubjectTotals:
        is_hole = next(number) == 30
        return replace(read(), quality="estimated", error_j=9.0) if is_hole else read()

    monkeypatch.setattr(replica, "reading", reading, raising=False)
    result = measured(replica)
    assert result.meter_error_j == pytest.approx(0.1 + 9.0 + 0.1)
    assert sum(window.error_j > 9.0 for window in result.windows) == 1


@pytest.mark.parametrize(
    ("attributes", "flag"),
    [
        ({"heating_c_per_s": 1.0}, Flag.UNSETTLED),
        ({"running_share": 0.5, "waiting": 0}, Flag.UNSATURATED),
        ({"lag_s": 3.0}, Flag.STALE),
        ({"quality": "estimated"}, Flag.STALE),
        ({"ripple": 0.9}, Flag.UNSTEADY),
        ({"reasons": frozenset({LimitReason.POWER_LIMIT})}, Flag.THROTTLED),
        ({"processes": 2}, Flag.SHARED),
        ({"clock_offset": 0.9}, Flag.CLOCK),
        ({"has_sensors": False}, Flag.UNWATCHED),
    ],
)
def test_each_fault_sets_its_flag(
    replica: VirtualReplica, attributes: dict[str, object], flag: Flag
) -> None:
    for name, value in attributes.items():
        setattr(replica, name, value)
    assert measured(replica).flags == (flag,)


def test_a_batch_that_is_not_full_is_saturated_while_requests_wait(replica: VirtualReplica) -> None:
    replica.running_share, replica.waiting = 0.5, 1
    assert measured(replica).flags == ()


def test_each_point_and_each_start_has_its_own_words(replica: VirtualReplica) -> None:
    for batch in (4, 8):
        for start in (0, 1_000_000_000_000):
            plan = replace(PLAN, prompt_seed=start)
            setting = replace(SETTING, batch_limit=batch)
            measure_point(replica.rig, setting, plan, replica.timing)
    assert len(set(replica.word_seeds)) == 4


def test_a_clock_that_cannot_be_set_gets_no_flag(replica: VirtualReplica) -> None:
    assert measured(replica, Setting(Phase.MIXED, 0, 8, 144, 26)).flags == ()


@given(st.integers(1, 500), st.integers(1, 200), st.integers(0, 5))
def test_lengths_have_the_requested_means_and_each_block_covers_the_range(
    prompt: int, output: int, seed: int
) -> None:
    arrivals = lengths_around(Setting(Phase.MIXED, 0, 1, prompt, output), seed)
    for mean, lengths in (
        (prompt, [a.prompt_tokens for a in arrivals]),
        (output, [a.output_tokens for a in arrivals]),
    ):
        assert sum(lengths) / len(lengths) == pytest.approx(mean, rel=0.02, abs=0.51)
        assert 1 <= min(lengths) <= max(lengths) <= 2 * mean - 1
        if mean > 4 * BLOCK:
            parts = Counter(BLOCK * (n - 1) // (2 * mean - 1) for n in lengths[:BLOCK])
            assert max(parts.values()) <= 2


def test_a_meter_without_a_new_reading_in_a_window_is_an_error(
    replica: VirtualReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = replica.reading()
    monkeypatch.setattr(replica, "reading", lambda: stopped, raising=False)
    with pytest.raises(DeviceError, match="replica-1: asked for the energy of a window"):
        measured(replica)


def test_the_time_that_a_point_takes_lies_between_the_two_estimates(
    replica: VirtualReplica,
) -> None:
    measured(replica)
    assert PLAN.shortest_point_s <= replica.now_s <= PLAN.longest_point_s
