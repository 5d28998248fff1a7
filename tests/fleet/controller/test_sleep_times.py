from __future__ import annotations

from steppe.control.sleep_ladder import SleepDepth, SleepRung
from steppe.fleet.controller.sleep_times import MOST_KEPT, SleepTimes

STOPPED = SleepRung(SleepDepth.STOPPED, 20.0, 60.0, 5.0)
OFF = SleepRung(SleepDepth.OFF, 0.0, 300.0, 60.0)


def test_measured_times_replace_those_that_are_stated() -> None:
    times = SleepTimes()
    assert times.rungs([STOPPED, OFF]) == (STOPPED, OFF)
    for wake_s in (20.0, 30.0, 40.0):
        times.add_wake(SleepDepth.STOPPED, wake_s)
    times.add_sleep(SleepDepth.OFF, 90.0)
    stopped, off = times.rungs([STOPPED, OFF])
    assert (stopped.wake_s, stopped.sleep_s, stopped.source) == (30.0, 5.0, "measured")
    assert (off.wake_s, off.sleep_s, off.source) == (300.0, 90.0, "stated")


def test_wakes_are_a_distribution_of_the_latest() -> None:
    times = SleepTimes()
    for second in range(1, MOST_KEPT + 101):
        times.add_wake(SleepDepth.STOPPED, float(second))
    quantiles = times.wake_quantiles_s()
    assert quantiles[SleepDepth.STOPPED, "0.5"] == 132.5
    assert quantiles[SleepDepth.STOPPED, "0.9"] == 158.0
