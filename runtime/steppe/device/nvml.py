"""NVIDIA GPUs, through NVML: the only module that knows pynvml, mW and mJ.

How NVML's errors are handled:

- the function is missing or not supported: `NotSupportedError`, and the knob is hidden;
- no permission: `NoPermissionError`, and the GPU is only metered, or left out if it cannot be
  opened;
- timeout, in use, not ready, unknown: retried at once, at most `ATTEMPTS` times, then
  `TransientDeviceError`; a GPU that cannot be opened because of it is left out;
- the GPU is lost or needs a reset: `DeviceLostError`, and its replica is fenced;
- no driver, no library, versions that do not match: `BackendUnavailableError`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pynvml

from steppe.device.gpu import Capabilities, Sample
from steppe.device.nvml_codes import error_kind, limit_reasons, plausible_w
from steppe.errors import (
    DeviceLostError,
    NoPermissionError,
    NotSupportedError,
    OutOfRangeError,
    TransientDeviceError,
)

ATTEMPTS = 3
_MILLI = 1e-3

_log = logging.getLogger(__name__)


def open_gpus() -> tuple[NvmlGpu, ...]:
    """Open every GPU of this host, in PCI order; one that cannot be opened is left out and logged.

    Raises:
        BackendUnavailableError: There is no driver, no library, or they do not match.
        NoPermissionError: No GPU could be opened for lack of permission.
        TransientDeviceError: No GPU could be opened; a retry may succeed.
    """
    _call(pynvml.nvmlInit)
    gpus: list[NvmlGpu] = []
    refused: NoPermissionError | TransientDeviceError | None = None
    for index in range(_call(pynvml.nvmlDeviceGetCount)):
        try:
            gpus.append(NvmlGpu(index))
        except (DeviceLostError, NoPermissionError, TransientDeviceError) as error:
            _log.warning("GPU %d is left out: %s", index, error)
            refused = refused if isinstance(error, DeviceLostError) else error
    if refused is not None and not gpus:
        raise refused
    return tuple(gpus)


class NvmlGpu:
    """One NVIDIA GPU: a meter, and a clock and a power knob.

    Setters clamp to what the GPU allows, and need CAP_SYS_ADMIN.

    Attributes:
        index: Position in PCI order.
        capabilities: What it can do.
    """

    def __init__(self, index: int) -> None:
        """Open the GPU at this position; `open_gpus` has initialised NVML."""
        self.index = index
        self._handle = _call(pynvml.nvmlDeviceGetHandleByIndex, index)
        self.capabilities = self._discover()

    @property
    def uuid(self) -> str:
        """The name of the GPU that never changes."""
        return self.capabilities.uuid

    @property
    def is_emulated(self) -> bool:
        """Whether an emulated driver answers."""
        return self.capabilities.is_emulated

    def energy_j(self) -> float:
        """Return the energy drawn since the driver was loaded, J; it moves about every 100 ms.

        Raises:
            NotSupportedError: The GPU has no energy counter (older than Volta).
            DeviceError: The reading failed.
        """
        return float(self._ask(pynvml.nvmlDeviceGetTotalEnergyConsumption)) * _MILLI

    def sample(self) -> Sample:
        """Read every sensor once.

        Raises:
            DeviceError: Power or clock could not be read; the other sensors may be missing.
        """
        limit_mw = self._sensor(pynvml.nvmlDeviceGetEnforcedPowerLimit)
        mask = self._sensor(pynvml.nvmlDeviceGetCurrentClocksEventReasons) or 0
        core = pynvml.NVML_TEMPERATURE_GPU
        return Sample(
            power_w=self.power_w(),
            average_power_w=self.average_power_w(),
            sm_clock_mhz=self.sm_clock_mhz(),
            temperature_c=self._sensor(pynvml.nvmlDeviceGetTemperature, core),
            power_limit_w=None if limit_mw is None else limit_mw * _MILLI,
            reasons=limit_reasons(mask),
            utilisation=self.utilisation(),
        )

    def power_w(self) -> float:
        """Return the draw over about 25 ms if the GPU reports it, else its own mean, W."""
        if not self.capabilities.has_instant_power:
            return self.average_power_w()
        return plausible_w(self._ask(_field_value, pynvml.NVML_FI_DEV_POWER_INSTANT) * _MILLI)

    def sm_clock_mhz(self) -> int:
        """Return the SM clock now, MHz."""
        return int(self._ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM))

    def utilisation(self) -> float | None:
        """Return `Sample.utilisation`, 0 to 1; None if the GPU does not report it."""
        rates = self._sensor(pynvml.nvmlDeviceGetUtilizationRates)
        return None if rates is None else rates.gpu / 100

    def board(self) -> tuple[int, int | None]:
        """Return its memory, bytes, and NVML's number of its architecture; None without one."""
        architecture = self._probe(pynvml.nvmlDeviceGetArchitecture)
        return int(self._ask(pynvml.nvmlDeviceGetMemoryInfo).total), architecture

    def power_limit_w(self) -> float:
        """Return the board power limit that was requested last, by any process, W."""
        return float(self._ask(pynvml.nvmlDeviceGetPowerManagementLimit)) * _MILLI

    def enforced_power_limit_w(self) -> float:
        """Return the board power limit in force after every limiter, W."""
        return float(self._ask(pynvml.nvmlDeviceGetEnforcedPowerLimit)) * _MILLI

    def set_clock_limit(self, clock_mhz: int) -> int:
        """Keep the SM clock at or below `clock_mhz`; return the supported clock it took, MHz.

        The lower bound stays at the lowest clock, so that an idle GPU draws no more. NVML cannot
        read a clock limit back: the caller watches `sm_clock_mhz` until it obeys.

        Raises:
            NotSupportedError: The GPU has no table of clocks.
            NoPermissionError: The process lacks CAP_SYS_ADMIN.
        """
        if not self.capabilities.has_clock_limit:
            raise NotSupportedError(f"{self.uuid}: asked for {clock_mhz} MHz, has no clock limit")
        accepted_mhz = self.capabilities.nearest_clock_mhz(clock_mhz)
        lowest_mhz = self.capabilities.sm_clocks_mhz[0]
        self._ask(pynvml.nvmlDeviceSetGpuLockedClocks, lowest_mhz, accepted_mhz)
        return accepted_mhz

    def reset_clock_limit(self) -> None:
        """Remove the SM clock limit."""
        self._ask(pynvml.nvmlDeviceResetGpuLockedClocks)

    def set_power_limit(self, limit_w: float) -> float:
        """Set the board power limit, clamped; return the limit in force after every limiter, W.

        If the limit in force cannot be read, the requested limit is returned.

        Raises:
            NotSupportedError: The GPU has no power limit.
            NoPermissionError: The process lacks CAP_SYS_ADMIN.
        """
        if self.capabilities.power_limit_range_w is None:
            raise NotSupportedError(f"{self.uuid}: asked for {limit_w:.0f} W, has no power limit")
        accepted_w = self.capabilities.nearest_power_limit_w(limit_w)
        self._ask(pynvml.nvmlDeviceSetPowerManagementLimit, round(accepted_w / _MILLI))
        enforced_mw = self._sensor(pynvml.nvmlDeviceGetEnforcedPowerLimit)
        return accepted_w if enforced_mw is None else enforced_mw * _MILLI

    def probe_control(self) -> None:
        """Check that limits may be changed, by writing the present power limit back.

        This is a write, so it is used only before control. It does nothing on a GPU without a
        power limit: there, the first setter shows it.

        Raises:
            NoPermissionError: The process lacks CAP_SYS_ADMIN.
        """
        if self.capabilities.power_limit_range_w is not None:
            present_mw = self._ask(pynvml.nvmlDeviceGetPowerManagementLimit)
            self._ask(pynvml.nvmlDeviceSetPowerManagementLimit, present_mw)

    def average_power_w(self) -> float:
        """Return the reading of GetPowerUsage, W: see `Sample.average_power_w`."""
        return plausible_w(self._ask(pynvml.nvmlDeviceGetPowerUsage) * _MILLI)

    def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
        return _call(function, self._handle, *args)

    def _probe(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call NVML; return None if the GPU can never answer."""
        try:
            return self._ask(function, *args)
        except (NotSupportedError, NoPermissionError, OutOfRangeError):
            return None

    def _sensor(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call NVML; return None if the GPU does not answer now."""
        try:
            return self._probe(function, *args)
        except TransientDeviceError:
            return None

    def _discover(self) -> Capabilities:
        limits_mw = self._probe(pynvml.nvmlDeviceGetPowerManagementLimitConstraints)
        default_mw = self._probe(pynvml.nvmlDeviceGetPowerManagementDefaultLimit)
        mig = self._probe(pynvml.nvmlDeviceGetMigMode)
        instant, module = pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_POWER_SCOPE_MODULE
        counter_mj = self._probe(pynvml.nvmlDeviceGetTotalEnergyConsumption)
        return Capabilities(
            uuid=self._ask(pynvml.nvmlDeviceGetUUID),
            name=self._ask(pynvml.nvmlDeviceGetName),
            driver=_call(pynvml.nvmlSystemGetDriverVersion),
            is_mig=bool(mig and mig[0]),
            has_energy_counter=counter_mj is not None,
            has_instant_power=self._probe(_field_value, instant) is not None,
            has_module_scope=self._probe(_field_value, instant, module) is not None,
            power_limit_range_w=limits_mw and (limits_mw[0] * _MILLI, limits_mw[1] * _MILLI),
            default_power_limit_w=None if default_mw is None else default_mw * _MILLI,
            sm_clocks_mhz=self._discover_clocks(),
        )

    def _discover_clocks(self) -> tuple[int, ...]:
        """Return the SM clocks that can be locked: none before Volta."""
        architecture = self._probe(pynvml.nvmlDeviceGetArchitecture)
        memory_clocks = self._probe(pynvml.nvmlDeviceGetSupportedMemoryClocks)
        if not memory_clocks or (architecture or 0) < pynvml.NVML_DEVICE_ARCH_VOLTA:
            return ()
        clocks = self._probe(pynvml.nvmlDeviceGetSupportedGraphicsClocks, max(memory_clocks))
        return tuple(sorted(clocks or ()))


def _call(function: Callable[..., Any], *args: Any) -> Any:
    """Call NVML; retry an error that may be transient, and translate any other."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return function(*args)
        except pynvml.NVMLError as error:
            kind = error_kind(error.value)
            if kind is not TransientDeviceError or attempt == ATTEMPTS:
                asked = ", ".join(str(value) for value in args if isinstance(value, int))
                raise kind(f"{function.__name__}({asked}): {error}") from error
    raise AssertionError("the last attempt returns or raises")


def _field_value(handle: Any, field_id: int, scope: int = pynvml.NVML_POWER_SCOPE_GPU) -> int:
    """Return a field in NVML's unit; a field can fail although the call succeeds."""
    field = pynvml.nvmlDeviceGetFieldValues(handle, [(field_id, scope)])[0]
    if field.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(field.nvmlReturn)
    is_narrow = field.valueType == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    return int(field.value.uiVal if is_narrow else field.value.ullVal)
