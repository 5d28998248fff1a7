"""The limits of a host: shared memory, open files, locked memory, disk, ports."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from steppe.config import GatewaySection
from steppe.errors import UsageError
from steppe.gateway.server import refuse_port_in_use
from steppe.run.doctor.finding import Finding, Level

GROUP = "host"
SHARED_MEMORY = Path("/dev/shm")
INFINIBAND = Path("/dev/infiniband")
GIB, MIB = 1 << 30, 1 << 20
LEAST_SHARED_BYTES, USUAL_SHARED_BYTES = 256 * MIB, GIB
"""NCCL exchanges through /dev/shm between the GPUs of a replica, and its manual asks for 1 GB in a
container, where 64 MB are the default (NVIDIA NCCL, troubleshooting, shared memory)."""
LEAST_FILES, USUAL_FILES = 1024, 8192
"""A stream takes two sockets of the gateway, and Ray some hundred files."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Limits of one host; None where there is no limit.

    Attributes:
        name: Its name.
        shared_bytes: Size of /dev/shm.
        shared_free_bytes: What is free of it.
        files: Most open files of a process; a process may raise it to `files_hard` by itself.
        files_hard: Most that it may be raised to.
        locked_bytes: Most locked memory of a process.
        has_infiniband: Whether there are InfiniBand devices.
    """

    name: str
    shared_bytes: int
    shared_free_bytes: int
    files: int | None
    files_hard: int | None
    locked_bytes: int | None
    has_infiniband: bool


def read_host(shared: Path = SHARED_MEMORY) -> HostFacts:
    """Return the limits of this host and this process."""
    space = shutil.disk_usage(shared) if shared.is_dir() else None
    files, files_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return HostFacts(
        name=socket.gethostname(),
        shared_bytes=0 if space is None else space.total,
        shared_free_bytes=0 if space is None else space.free,
        files=_limit(files),
        files_hard=_limit(files_hard),
        locked_bytes=_limit(locked),
        has_infiniband=INFINIBAND.is_dir(),
    )


def _limit(value: int) -> int | None:
    return None if value == resource.RLIM_INFINITY else value


def check_host(found: HostFacts, *, gpus_per_replica: int) -> list[Finding]:
    """Return whether a host lets a fleet run.

    Args:
        found: Its limits.
        gpus_per_replica: GPUs of a replica: several exchange through shared memory.
    """
    return [
        _shared_memory(found, gpus_per_replica),
        _files(found.files, found.files_hard),
        *_locked_memory(found),
    ]


def _shared_memory(found: HostFacts, gpus_per_replica: int) -> Finding:
    text = f"{_size(found.shared_free_bytes)} free of {_size(found.shared_bytes)} in /dev/shm"
    if found.shared_free_bytes >= USUAL_SHARED_BYTES:
        return Finding(GROUP, "shared memory", Level.OK, text)
    advice = "give the container more: --shm-size=8g, or --ipc=host"
    too_small = gpus_per_replica > 1 and found.shared_free_bytes < LEAST_SHARED_BYTES
    level = Level.FATAL if too_small else Level.WARNING
    why = f", {gpus_per_replica} GPUs of a replica exchange through it" if too_small else ""
    return Finding(GROUP, "shared memory", level, text + why, advice)


def _files(soft: int | None, hard: int | None) -> Finding:
    if soft is None or soft >= USUAL_FILES:
        text = "no limit" if soft is None else f"up to {soft} in a process"
        return Finding(GROUP, "open files", Level.OK, text)
    text = f"up to {soft} in a process: about {soft // 2} streams at once at most"
    more = "65536" if hard is None or hard >= USUAL_FILES else f"65536 (the hard limit is {hard})"
    level = Level.FATAL if soft < LEAST_FILES else Level.WARNING
    return Finding(
        GROUP, "open files", level, text, f"ulimit -n {more}, or LimitNOFILE in the unit"
    )


def _locked_memory(found: HostFacts) -> list[Finding]:
    """Look for a limit that keeps InfiniBand from registering memory; nothing else needs it."""
    if not found.has_infiniband or found.locked_bytes is None:
        return []
    text = f"up to {_size(found.locked_bytes)} in a process, InfiniBand registers more"
    advice = "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit"
    return [Finding(GROUP, "locked memory", Level.WARNING, text, advice)]


def check_port(gateway: GatewaySection) -> Finding:
    """Return whether the gateway's port is free on this host."""
    place = f"{gateway.host}:{gateway.port}"
    try:
        refuse_port_in_use(gateway.host, gateway.port)
    except UsageError as error:
        advice = "end what listens there, or choose another gateway.port"
        return Finding(GROUP, "port", Level.FATAL, str(error), advice)
    return Finding(GROUP, "port", Level.OK, f"{place} is free")


def free_bytes(folder: Path) -> int:
    """Return the free space where a folder is, or would be made, bytes."""
    at = folder.absolute()
    while not at.exists() and at != at.parent:
        at = at.parent
    usage = os.statvfs(at)
    return usage.f_bavail * usage.f_frsize


def _size(number: float) -> str:
    """Return a number of bytes for people."""
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"
