"""The C interface of the emulated library: its control functions, in ctypes."""

from __future__ import annotations

import ctypes
from enum import IntEnum
from pathlib import Path

from steppe.errors import BackendUnavailableError


class Code(IntEnum):
    """NVML return codes that the control functions answer."""

    OK = 0
    INVALID_ARGUMENT = 2
    NOT_FOUND = 6
    INSUFFICIENT_SIZE = 7
    INSUFFICIENT_MEMORY = 20
    VERSION_MISMATCH = 25


class SnapshotStruct(ctypes.Structure):
    """Mirrors `snapshot_t` in control.c."""

    _fields_ = (
        ("now_s", ctypes.c_double),
        ("true_j", ctypes.c_double),
        ("counter_j", ctypes.c_double),
        ("power_w", ctypes.c_double),
        ("instant_w", ctypes.c_double),
        ("average_w", ctypes.c_double),
        ("clock_mhz", ctypes.c_double),
        ("max_mhz", ctypes.c_double),
        ("temp_c", ctypes.c_double),
        ("limit_w", ctypes.c_double),
        ("core_load", ctypes.c_double),
        ("mem_load", ctypes.c_double),
        ("lock_min_mhz", ctypes.c_uint),
        ("lock_max_mhz", ctypes.c_uint),
        ("reasons", ctypes.c_ulonglong),
        ("num_clock_sets", ctypes.c_ulonglong),
        ("num_limit_sets", ctypes.c_ulonglong),
        ("mem_bytes", ctypes.c_ulonglong),
        ("num_contexts", ctypes.c_ulonglong),
    )


_INT, _UINT, _U64, _DOUBLE, _TEXT = (
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_ulonglong,
    ctypes.c_double,
    ctypes.c_char_p,
)
_SIGNATURES: dict[str, tuple[object, ...]] = {
    "nvemu_attach": (_TEXT, _TEXT),
    "nvemu_count": (),
    "nvemu_set_load": (_UINT, _DOUBLE, _DOUBLE, _DOUBLE),
    "nvemu_set_context": (_UINT, _UINT, _U64),
    "nvemu_clear_context": (_UINT, _UINT),
    "nvemu_set_alive": (_UINT, _INT),
    "nvemu_reset_counter": (_UINT,),
    "nvemu_freeze": (_UINT, _INT),
    "nvemu_spike": (_UINT, _DOUBLE, _UINT),
    "nvemu_set_fault": (_UINT, _TEXT, _DOUBLE),
    "nvemu_set_neighbour": (_UINT, _UINT, _DOUBLE, _DOUBLE, _U64),
    "nvemu_inject": (_TEXT, _INT, _INT, _INT, _DOUBLE),
    "nvemu_clear_faults": (),
    "nvemu_virtual": (_INT,),
    "nvemu_tick": (_DOUBLE,),
    "nvemu_snap": (_UINT, ctypes.POINTER(SnapshotStruct)),
    "nvemu_speed": (_UINT,),
    "nvemu_set_constant": (_UINT, _TEXT, _DOUBLE),
    "nvemu_show": (_UINT, _DOUBLE, _DOUBLE, _DOUBLE, _DOUBLE),
}


def load(library: Path) -> ctypes.CDLL:
    """Load the library, so that a later `dlopen("libnvidia-ml.so.1")` finds it.

    Raises:
        BackendUnavailableError: It cannot be loaded, or is not the emulated library.
    """
    try:
        loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        for name, arguments in _SIGNATURES.items():
            getattr(loaded, name).argtypes = arguments
    except (OSError, AttributeError) as error:
        raise BackendUnavailableError(f"{library} is no emulated GPU library: {error}") from error
    loaded.nvemu_speed.restype = ctypes.c_double
    return loaded
