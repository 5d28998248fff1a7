"""NVML's error codes and masks, as Steppe's types.

The values are part of NVML's ABI (`nvml.h`); a test compares them with pynvml's.
"""

from __future__ import annotations

from steppe.device.gpu import LimitReason
from steppe.errors import (
    BackendUnavailableError,
    DeviceError,
    DeviceLostError,
    NoPermissionError,
    NotSupportedError,
    OutOfRangeError,
    TransientDeviceError,
)

# NVML marks a missing reading with values near 2^32 mW; no board draws this much.
ABSURD_W = 10_000.0

_ERRORS: dict[int, type[DeviceError]] = {
    1: BackendUnavailableError,  # uninitialised
    2: OutOfRangeError,  # invalid argument
    3: NotSupportedError,
    4: NoPermissionError,
    6: NotSupportedError,  # not found
    8: DeviceLostError,  # insufficient power
    9: BackendUnavailableError,  # driver not loaded
    12: BackendUnavailableError,  # library not found
    13: NotSupportedError,  # function not found
    15: DeviceLostError,  # GPU is lost
    16: DeviceLostError,  # reset required
    17: NoPermissionError,  # blocked by the operating system
    18: BackendUnavailableError,  # library and driver do not match
    24: OutOfRangeError,  # frequency not supported
    25: NotSupportedError,  # argument version mismatch
    26: NotSupportedError,  # deprecated
    28: BackendUnavailableError,  # no GPU found
}

_REASONS = {
    0x01: LimitReason.IDLE,
    0x02: LimitReason.APPLICATION_CLOCKS,
    0x04: LimitReason.POWER_LIMIT,
    0x08: LimitReason.HARDWARE_SLOWDOWN,
    0x10: LimitReason.SYNC_BOOST,
    0x20: LimitReason.THERMAL,
    0x40: LimitReason.HARDWARE_THERMAL,
    0x80: LimitReason.POWER_BRAKE,
}


def error_kind(code: int) -> type[DeviceError]:
    """Return the exception type of an NVML error; an unknown one counts as transient."""
    return _ERRORS.get(code, TransientDeviceError)


def limit_reasons(mask: int) -> frozenset[LimitReason]:
    """Return the reasons in a mask of NVML's clocks event reasons."""
    return frozenset(reason for bit, reason in _REASONS.items() if mask & bit)


def plausible_w(power_w: float) -> float:
    """Return a power reading of NVML, W.

    Raises:
        TransientDeviceError: The value marks a missing reading.
    """
    if power_w >= ABSURD_W:
        raise TransientDeviceError(f"asked for a power reading, found {power_w:.0f} W")
    return power_w
