"""The processes on a GPU, through NVML."""

from __future__ import annotations

import pynvml

from steppe.device.nvml_codes import error_kind
from steppe.errors import NoPermissionError, NotSupportedError, TransientDeviceError

RECENT_US = 5_000_000
"""An older sample of a process than the latest one by more than this does not count, us."""


def compute_processes(gpu_index: int) -> frozenset[int] | None:
    """Return the pids of the processes that hold a context on a GPU; None if unknown.

    Inside a container NVML answers with pids of the host. `open_gpus` has initialised NVML.

    Raises:
        DeviceError: The GPU is lost, or there is no driver.
    """
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(gpu_index)
        return frozenset(p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except pynvml.NVMLError as error:
        kind = error_kind(error.value)
        if kind in (NotSupportedError, NoPermissionError, TransientDeviceError):
            return None
        raise kind(f"processes of GPU {gpu_index}: {error}") from error


def process_utilisation(gpu_index: int) -> dict[int, float] | None:
    """Return the share of time in which each process had a kernel on a GPU; None if unknown.

    By pid, from the latest sample of each process; a process without a recent sample is left out.
    `open_gpus` has initialised NVML.

    Raises:
        DeviceError: The GPU is lost, or there is no driver.
    """
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(gpu_index)
        samples = pynvml.nvmlDeviceGetProcessUtilization(handle, 0)
    except pynvml.NVMLError_NotFound:
        return {}
    except pynvml.NVMLError as error:
        kind = error_kind(error.value)
        if kind in (NotSupportedError, NoPermissionError, TransientDeviceError):
            return None
        raise kind(f"processes of GPU {gpu_index}: {error}") from error
    latest_us = max((sample.timeStamp for sample in samples), default=0)
    return {
        sample.pid: sample.smUtil / 100
        for sample in sorted(samples, key=lambda sample: sample.timeStamp)
        if latest_us - sample.timeStamp <= RECENT_US
    }
