"""What keeps GPUs from serving, or makes their figures doubtful, is found and comes with advice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.run.doctor.made_up import SOFTWARE, gpu, gpus, health, only, serious

from steppe.device.gpu import LimitReason
from steppe.device.health import RemappedRows
from steppe.device.nvml_driver import Driver
from steppe.run.doctor.counter import CounterFacts
from steppe.run.doctor.finding import Level
from steppe.run.doctor.gpus import check_counters, check_driver, check_gpus, missing_driver


def test_sound_gpus_are_fine() -> None:
    findings = [*check_gpus(gpus()), *check_counters(gpus())]
    assert serious(findings) == [("clocks", Level.UNKNOWN)]
    assert only(findings, "GPUs").found == "8 x NVIDIA H100 80GB HBM3"
    assert only(findings, "energy").found == (
        "counters move every 100 ms and agree with the power to 1 %"
    )


@pytest.mark.parametrize(
    ("driver", "cuda", "level"),
    [
        (Driver("580.65.06", (13, 0)), (13, 0), Level.OK),
        (Driver("580.65.06", (13, 0)), (12, 8), Level.OK),
        (Driver("570.86.15", (12, 8)), (12, 9), Level.OK),
        (Driver("570.86.15", (12, 8)), (13, 0), Level.FATAL),
        (Driver("470.82.01", None), (12, 4), Level.FATAL),
        (Driver("535.54.03", None), (12, 4), Level.OK),
        (Driver("535.54.03", (13, 0)), (13, 0), Level.OK),
        (Driver("610.11", (13, 4)), (14, 0), Level.FATAL),
        (Driver("570.86.15", (12, 8)), None, Level.OK),
    ],
)
def test_a_driver_has_to_run_the_cuda_of_torch(
    driver: Driver, cuda: tuple[int, int] | None, level: Level
) -> None:
    assert check_driver(driver, replace(SOFTWARE, torch_cuda=cuda)).level is level


def test_the_advice_about_an_old_driver_names_the_branch_that_is_needed() -> None:
    finding = check_driver(Driver("570.86.15", (12, 8)), SOFTWARE)
    assert finding.found == "driver 570.86.15, CUDA 12.8, too old for torch's CUDA 13.0"
    assert finding.advice == "install driver 580 or newer, or torch and vLLM for CUDA 12"


def test_the_advice_about_a_missing_driver_says_what_a_gpu_machine_needs() -> None:
    finding = missing_driver("NVML Shared Library Not Found")
    assert finding.level is Level.FATAL
    for need in ("NVIDIA driver (580 or newer", "nvidia-smi -L", "EXTRAS=cuda", "steppe demo"):
        assert need in finding.advice
    assert check_gpus([])[0].level is Level.FATAL


@pytest.mark.parametrize(
    ("changes", "check", "says"),
    [
        ({"is_mig": True}, "MIG", "nvidia-smi -i 0 -mig 0"),
        ({"health": health(uncorrected_errors=2)}, "memory errors", "2 uncorrectable"),
        (
            {"health": health(remapped_rows=RemappedRows(0, 1, False, True))},
            "memory errors",
            "the board has to be replaced",
        ),
        ({"health": health(ecc_is_on=False)}, "memory errors", "nvidia-smi -i 0 -e 1"),
        ({"xids": (31, 79)}, "Xids", "GPU 0 (GPU-00000000): Xid 79, the GPU has fallen off"),
        ({"reasons": frozenset({LimitReason.POWER_BRAKE})}, "slow-down", "power brake"),
        ({"processes": (4242,)}, "processes", "GPU 0 (GPU-00000000): process 4242"),
        ({"limit_w": 500.0, "enforced_w": 500.0}, "power limits", "500 W, 700 W by default"),
        ({"limit_w": 500.0}, "power limits", "nvidia-smi -i 0 -pl 700"),
        ({"enforced_w": 450.0}, "power limits", "450 W in force, 700 W by default"),
        ({"health": health(persistence=False)}, "persistence", "sudo nvidia-smi -pm 1"),
        ({"highest_mhz": None}, "clocks", "the clock cannot be limited"),
        ({"name": "NVIDIA H100 PCIe"}, "GPUs", "1 x NVIDIA H100 PCIe, 7 x NVIDIA H100 80GB"),
    ],
)
def test_each_fault_of_one_gpu_is_a_warning_with_advice(
    changes: dict[str, Any], check: str, says: str
) -> None:
    finding = only(check_gpus(gpus(**changes)), check)
    assert finding.level is Level.WARNING
    assert says in f"{finding.found} {finding.advice}"
    assert finding.advice


def test_memory_errors_of_every_gpu_are_fatal() -> None:
    broken = [gpu(index, health=health(uncorrected_errors=1)) for index in range(2)]
    assert only(check_gpus(broken), "memory errors").level is Level.FATAL


def test_an_xid_of_a_program_asks_for_nothing() -> None:
    assert only(check_gpus(gpus(xids=(13, 31, 43))), "Xids").level is Level.OK


@pytest.mark.parametrize(
    ("reasons", "clock_mhz", "level"),
    [
        (set(), 1200, Level.WARNING),
        ({LimitReason.APPLICATION_CLOCKS}, 1200, Level.WARNING),
        ({LimitReason.POWER_LIMIT}, 1200, Level.OK),
        (set(), 1980, Level.OK),
    ],
)
def test_a_clock_that_another_program_limits_is_inferred_from_a_gpu_at_work(
    reasons: set[LimitReason], clock_mhz: int, level: Level
) -> None:
    working = gpus(utilisation=0.9, sm_clock_mhz=clock_mhz, reasons=frozenset(reasons))
    assert only(check_gpus(working), "clocks").level is level


def test_what_a_gpu_does_not_report_is_unknown_and_not_wrong() -> None:
    silent = [gpu(0, health=None, xids=None, processes=None, limit_w=None, default_w=None)]
    assert {level for _, level in serious(check_gpus(silent))} == {Level.UNKNOWN}


@pytest.mark.parametrize(
    ("counter", "level", "says"),
    [
        (CounterFacts(exists=False), Level.WARNING, "no energy counter"),
        (
            CounterFacts(True, 0.1, 37.5, 65.4, True),
            Level.WARNING,
            "38 W by the counter, 65 W by the power reading (-43 %)",
        ),
        (CounterFacts(True, 0.1, 500.0, 300.0, False), Level.UNKNOWN, "could not be compared"),
        (CounterFacts(), Level.UNKNOWN, "could not be compared"),
    ],
)
def test_joules_that_may_be_wrong_are_named(counter: CounterFacts, level: Level, says: str) -> None:
    (finding,) = check_counters(gpus(counter=counter))
    assert finding.level is level
    assert says in finding.found
