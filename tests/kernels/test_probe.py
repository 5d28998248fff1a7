from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe_kernels.peaks import data_sheet
from steppe_kernels.probe import Peak, Workload, probe


class Device:
    """Takes a set time for each launch, on its own clock, once somebody waits for it."""

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
    found = probe(device.workload(), seconds, Peak(80.0, 20.0), clock_s=lambda: device.now_s)
    assert found.elapsed_s >= seconds
    assert found.elapsed_s <= seconds + max(launch_s, 0.051)
    assert math.isclose(found.launches * launch_s, found.elapsed_s, rel_tol=1e-6)
    assert math.isclose(found.bytes_per_s, 8.0 / launch_s, rel_tol=1e-6)
    assert found.share_of_bandwidth == pytest.approx(found.bytes_per_s / 80.0)
    assert found.share_of_compute == pytest.approx(found.flop_per_s / 20.0)


def test_the_host_waits_once_for_many_short_launches() -> None:
    device = Device(0.0001)
    found = probe(device.workload(), 1.0, clock_s=lambda: device.now_s)
    assert device.waits < found.launches / 400
    assert (found.share_of_bandwidth, found.share_of_compute) == (None, None)


def test_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="asked for a probe of 0 s"):
        probe(Device(1.0).workload(), 0)


@pytest.mark.parametrize(
    ("card", "bandwidth"),
    [
        ("NVIDIA H100 80GB HBM3", 3.35e12),
        ("NVIDIA H100 NVL", 3.9e12),
        ("NVIDIA H100 PCIe", 2.0e12),
        ("NVIDIA H200", 4.8e12),
        ("NVIDIA A100-SXM4-80GB", 2.039e12),
        ("NVIDIA A100 80GB PCIe", 1.935e12),
        ("NVIDIA A100-SXM4-40GB", 1.555e12),
        ("NVIDIA L4", 300e9),
    ],
)
def test_a_card_is_known_by_its_name(card: str, bandwidth: float) -> None:
    sheet = data_sheet(card)
    assert sheet is not None
    assert sheet.bytes_per_s == bandwidth


def test_an_unknown_card_and_fp8_on_an_a100_have_no_peak() -> None:
    assert data_sheet("NVIDIA L40S") is None
    a100 = data_sheet("NVIDIA A100-SXM4-80GB")
    assert a100 is not None
    assert a100.peak(8) is None
    assert a100.peak(16) == Peak(2.039e12, 312e12)
