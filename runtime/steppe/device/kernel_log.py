"""Xids that the driver wrote to the kernel log since the host was started.

NVML reports only the Xids that come after a client has begun to watch; the log has the earlier
ones, as `NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.` (NVIDIA, "Xid
Errors"). Without the right to read the log (CAP_SYSLOG) there is nothing to say.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

KERNEL_LOG = Path("/dev/kmsg")
_RECORD = 8192
"""Longest record of the kernel log, bytes (CONSOLE_EXT_LOG_MAX)."""
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-f:]+)\): (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LoggedXid:
    """One Xid of the kernel log.

    Attributes:
        pci: PCI address of the GPU, such as `0000:3b:00`.
        xid: Its number.
    """

    pci: str
    xid: int


def read_logged_xids(log: Path = KERNEL_LOG) -> tuple[LoggedXid, ...] | None:
    """Return the Xids in the kernel log, the oldest first; None if it cannot be read."""
    try:
        file = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        text = _read_all(file)
    except OSError:
        return None
    finally:
        os.close(file)
    return tuple(LoggedXid(pci.lower(), int(xid)) for pci, xid in _XID.findall(text))


def _read_all(file: int) -> str:
    """Return what is in a log, one record a read; a record may be overwritten meanwhile."""
    parts: list[bytes] = []
    while True:
        with suppress(BrokenPipeError):
            try:
                part = os.read(file, _RECORD)
            except BlockingIOError:
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts).decode(errors="replace")
