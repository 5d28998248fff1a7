from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe_kernels.probe import Workload, probe


class Device:
    """Takes a set time for each launch, on its own clock, when waited for."""

    def __init__(self, launch_s: float) -> None:
        self.launch_s, self.queued, self.now_s, self.waits = launch_s, 0, 100.0, 0

    def launch(self) -> None:
        self.queued += 1

    def wait(self) -> None:
        self.now_s += self.queued * self.launch_s
        self.queued, self.waits = 0, self.waits + 1

    def workload(self) -> Workload:
        return Workload("w", self.launch, self.wait, bytes_per_launch=8.0, flop_per_launch=2.0)


@given(launch_s=st.floats(1e-5, 3.0), seconds=st.floats(0.01, 5.0))
def test_the_rates_are_the_work_over_the_measured_time(launch_s: float, seconds: float) -> None:
    device = Device(launch_s)
    found = probe(device.workload(), seconds, clock_s=lambda: device.now_s)
    assert found.elapsed_s >= seconds
    assert found.elapsed_s <= seconds + max(launch_s, 0.051)
    assert math.isclose(found.launches * launch_s, found.elapsed_s, rel_tol=1e-6)
    assert math.isclose(found.bytes_per_s, 8.0 / launch_s, rel_tol=1e-6)
    assert math.isclose(found.flop_per_s, 2.0 / launch_s, rel_tol=1e-6)


def test_the_host_waits_once_for_many_short_launches() -> None:
    device = Device(0.0001)
    found = probe(device.workload(), 1.0, clock_s=lambda: device.now_s)
    assert device.waits < found.launches / 400


def test_a_probe_of_no_length_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 0 s, found 0 s"):
        probe(Device(1.0).workload(), 0)
