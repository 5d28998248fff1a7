"""Energy of the host's processors and memory, from RAPL through Linux's powercap.

Packages and their DRAM are added up. Cores are part of their package and `psys` covers the whole
platform, so neither is added. The counters wrap at `max_energy_range_uj`; each reading takes the
difference modulo that, so it must be read at least once a wrap (on a 300 W package with the
common range of 262 kJ: every 14 minutes). Root-only since Linux 5.10 (CVE-2020-8694).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from steppe.device.gpu import Capabilities
from steppe.errors import DeviceLostError, NoPermissionError

POWERCAP = Path("/sys/class/powercap")
_MICRO = 1e-6


class RaplMeter:
    """A rising energy counter over the RAPL zones of one host."""

    def __init__(self, zones: tuple[Path, ...]) -> None:
        """Begin at 0 J.

        Raises:
            NoPermissionError: The counters may only be read by root.
        """
        self._ranges_uj = {zone: _read(zone / "max_energy_range_uj") for zone in zones}
        self._last_uj = {zone: _read(zone / "energy_uj") for zone in zones}
        self._total_uj = 0

    def energy_j(self) -> float:
        """Return the energy since this meter was opened, J.

        Raises:
            NoPermissionError: The counters can no longer be read.
            DeviceLostError: A zone is gone.
        """
        for zone, last_uj in self._last_uj.items():
            now_uj = _read(zone / "energy_uj")
            self._total_uj += (now_uj - last_uj) % (self._ranges_uj[zone] + 1)
            self._last_uj[zone] = now_uj
        return self._total_uj * _MICRO


def open_host_meter(gpus: Iterable[Capabilities] = (), root: Path = POWERCAP) -> RaplMeter | None:
    """Open the host's meter; None if the host has none, as on most virtual machines.

    Also None if a GPU can read its whole module (GH200, GB200): that reading contains the
    processor, and RAPL would count it twice.

    Args:
        gpus: The GPUs whose energy is added to the host's.
        root: The powercap folder.

    Raises:
        NoPermissionError: The host has a meter that only root may read.
    """
    if any(gpu.has_module_scope for gpu in gpus):
        return None
    zones = tuple(zone for zone in sorted(root.glob("intel-rapl:*")) if _is_added(zone))
    return RaplMeter(zones) if zones else None


def _is_added(zone: Path) -> bool:
    try:
        name = (zone / "name").read_text().strip()
    except OSError:
        return False
    return name.startswith("package") or name == "dram"


def _read(file: Path) -> int:
    try:
        return int(file.read_text())
    except PermissionError as error:
        raise NoPermissionError(f"{file}: only root may read it") from error
    except (OSError, ValueError) as error:
        raise DeviceLostError(f"{file}: asked for a number of microjoules: {error}") from error
