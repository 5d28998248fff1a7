"""The processes on a GPU, through NVML."""

from __future__ import annotations

import pynvml

from steppe.device.nvml_codes import error_kind
from steppe.errors import NoPermissionError, NotSupportedError, TransientDeviceError


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
