"""Memory errors, persistence and Xids of GPUs, through NVML; reads only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Self

import pynvml

from steppe.device.gpu import LimitReason
from steppe.device.health import SLOWDOWNS, GpuHealth, RemappedRows, XidEvent
from steppe.device.nvml import NvmlGpu
from steppe.device.nvml_codes import error_kind, limit_reasons
from steppe.errors import (
    DeviceError,
    NoPermissionError,
    NotSupportedError,
    OutOfRangeError,
    TransientDeviceError,
)

_CORRECTED = pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED
_UNCORRECTED = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
_SINCE_LOAD, _LIFETIME = pynvml.NVML_VOLATILE_ECC, pynvml.NVML_AGGREGATE_ECC
_UNKNOWN = (NotSupportedError, NoPermissionError, OutOfRangeError, TransientDeviceError)


def read_health(gpu: NvmlGpu) -> GpuHealth:
    """Read the state of one GPU; what it does not say is None. It takes some milliseconds.

    Raises:
        DeviceLostError: The GPU is lost.
        BackendUnavailableError: There is no driver any more.
    """
    handle = _ask(pynvml.nvmlDeviceGetHandleByIndex, gpu.index)
    if handle is None:
        return GpuHealth(gpu.uuid, None, None, None, None, None, None, None)
    mode = _ask(pynvml.nvmlDeviceGetEccMode, handle)
    total = pynvml.nvmlDeviceGetTotalEccErrors
    rows = _ask(pynvml.nvmlDeviceGetRemappedRows, handle)
    pages = _ask(pynvml.nvmlDeviceGetRetiredPagesPendingStatus, handle)
    persistence = _ask(pynvml.nvmlDeviceGetPersistenceMode, handle)
    return GpuHealth(
        uuid=gpu.uuid,
        ecc_is_on=None if mode is None else bool(mode[0]),
        corrected_errors=_ask(total, handle, _CORRECTED, _SINCE_LOAD),
        uncorrected_errors=_ask(total, handle, _UNCORRECTED, _SINCE_LOAD),
        lifetime_uncorrected_errors=_ask(total, handle, _UNCORRECTED, _LIFETIME),
        remapped_rows=rows and RemappedRows(rows[0], rows[1], bool(rows[2]), bool(rows[3])),
        retirement_is_pending=None if pages is None else bool(pages),
        persistence=None if persistence is None else bool(persistence),
        reasons=limit_reasons(_ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle) or 0),
    )


def read_slowdowns(gpu: NvmlGpu) -> frozenset[LimitReason]:
    """Return the reasons for a low clock that neither Steppe nor the load asked for.

    Raises:
        DeviceError: The GPU does not answer.
    """
    handle = _call(pynvml.nvmlDeviceGetHandleByIndex, gpu.index)
    mask = _call(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    return limit_reasons(mask) & SLOWDOWNS


class XidEvents:
    """Waits for the Xids of some GPUs.

    Attributes:
        watched: GPUs whose Xids are seen, by UUID; a GPU without events is not among them.
    """

    def __init__(
        self, gpus: Iterable[NvmlGpu], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin to watch; earlier Xids are not seen.

        Args:
            gpus: The GPUs, opened by `open_gpus`.
            clock: Returns monotonic time, s.

        Raises:
            NotSupportedError: The driver has no events.
            DeviceError: No event set could be made.
        """
        self._clock = clock
        self._set = _call(pynvml.nvmlEventSetCreate)
        self.watched = frozenset(gpu.uuid for gpu in gpus if self._register(gpu))

    def wait(self, timeout_s: float) -> XidEvent | None:
        """Return the next Xid; None if none comes in time.

        Raises:
            DeviceError: A GPU is lost, or there is no driver any more.
        """
        try:
            found = pynvml.nvmlEventSetWait_v2(self._set, round(timeout_s * 1e3))
        except pynvml.NVMLError_Timeout:
            return None
        except pynvml.NVMLError as error:
            raise error_kind(error.value)(f"waiting for an Xid: {error}") from error
        uuid = _ask(pynvml.nvmlDeviceGetUUID, found.device) if found.device else None
        return XidEvent(uuid or "", int(found.eventData), self._clock())

    def close(self) -> None:
        """Stop watching."""
        _ask(pynvml.nvmlEventSetFree, self._set)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _register(self, gpu: NvmlGpu) -> bool:
        try:
            handle = _call(pynvml.nvmlDeviceGetHandleByIndex, gpu.index)
            wanted = pynvml.nvmlEventTypeXidCriticalError
            if not _call(pynvml.nvmlDeviceGetSupportedEventTypes, handle) & wanted:
                return False
            _call(pynvml.nvmlDeviceRegisterEvents, handle, wanted, self._set)
        except DeviceError:
            return False
        return True


def _call(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except pynvml.NVMLError as error:
        raise error_kind(error.value)(f"{function.__name__}: {error}") from error


def _ask(function: Callable[..., Any], *args: Any) -> Any:
    """Call NVML; return None if the GPU does not answer."""
    try:
        return _call(function, *args)
    except _UNKNOWN:
        return None
