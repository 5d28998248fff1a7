"""Check the units of systemd: `python -m deploy.check.units`, in the root.

systemd-analyze reads them offline: whether it knows every setting, and how exposed a service is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from steppe.config.control import ControlSection
from steppe.config.gateway import GatewaySection

DEPLOY = Path(__file__).parents[1]
AGENT = DEPLOY / "systemd" / "steppe-agent.service"
DRIVER = DEPLOY / "systemd" / "steppe.service"
NODE = DEPLOY / "systemd" / "steppe-node.service"
LIMITS: Mapping[Path, float] = {AGENT: 3.0, DRIVER: 2.2, NODE: 2.2}
"""Highest exposure of each unit, as systemd-analyze scores it: 0 is best, 10 is worst."""
ALL_SANDBOXES: Mapping[str, str] = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "KeyringMode": "private",
    "SystemCallArchitectures": "native",
}
"""What closes each service to the host."""
OF_USERS = {
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "DevicePolicy": "closed",
    "ProtectHome": "yes",
    "ProtectClock": "yes",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallFilter": "@system-service",
}
SANDBOXES: Mapping[Path, Mapping[str, str]] = {
    AGENT: {
        **ALL_SANDBOXES,
        "CapabilityBoundingSet": "CAP_SYS_ADMIN CAP_DAC_READ_SEARCH CAP_CHOWN CAP_SYS_NICE",
        "PrivateNetwork": "yes",
        "ProtectHome": "read-only",
        "RestrictAddressFamilies": "AF_UNIX",
        "SystemCallFilter": (
            "~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap"
        ),
    },
    DRIVER: {**ALL_SANDBOXES, **OF_USERS},
    NODE: {**ALL_SANDBOXES, **OF_USERS},
}
"""The sandbox of each service: the score of systemd-analyze may be good with a setting less."""
CLOSE_S = 60.0
"""What a run may need beside the drain to stop: last joules, the books, Ray, s."""
ANALYZE_S = 60.0
"""Longest time for a call of systemd-analyze, s."""
MISSING = "systemd-analyze is not installed: apt-get install systemd"
_PROGRAM = re.compile(r"(?<==)/opt/steppe/\.venv/bin/\S+")
_UNITS_S = {"": 1.0, "s": 1.0, "min": 60.0}


def settings(unit: str) -> dict[str, str]:
    """Return the settings of a unit; of one that is given more than once, the last."""
    joined = unit.replace("\\\n", " ")
    pairs = (line.split("=", 1) for line in joined.splitlines() if "=" in line and line[0] != "#")
    return {name: " ".join(value.split()) for name, value in pairs}


def seconds(time: str) -> float:
    """Return a time of systemd, such as 90s or 2min, s."""
    match = re.fullmatch(r"(\d+)\s*(s|min|)", time)
    return float(match[1]) * _UNITS_S[match[2]] if match else 0.0


def stop_problems(unit: str, drain_s: float) -> Iterator[str]:
    """Yield why a unit would end its service before that has drained.

    Args:
        unit: The text of the unit.
        drain_s: How long requests may go on after SIGTERM, s.
    """
    found = settings(unit)
    stop = found.get("TimeoutStopSec", "")
    if seconds(stop) < drain_s:
        yield f"TimeoutStopSec={stop} is shorter than a stop may take, {drain_s:.0f} s"
    if found.get("KillMode") != "mixed":
        yield "KillMode is not mixed: SIGTERM would end replicas and gateways before they drain"


def root_problems(unit: str) -> Iterator[str]:
    """Yield what a service that is not the agent has of root."""
    found = settings(unit)
    if found.get("User", "root") in ("root", "0"):
        yield f"User is {found.get('User', 'not set')}: it runs as root, asked for User=steppe"


def undo_problems(unit: str) -> Iterator[str]:
    """Yield why the limits of GPUs could outlive the agent."""
    found = settings(unit)
    if "--undo" not in found.get("ExecStopPost", ""):
        yield "no ExecStopPost undoes what a killed agent has left"
    if found.get("Restart") != "always":
        yield "is not always started again"
    if found.get("RuntimeDirectoryPreserve") != "yes":
        yield "loses its lease file when it stops: asked for RuntimeDirectoryPreserve=yes"


def sandbox_problems(unit: str, sandbox: Mapping[str, str]) -> Iterator[str]:
    """Yield the settings of a sandbox that a unit lacks, or has otherwise."""
    found = settings(unit)
    for name, asked in sandbox.items():
        if found.get(name) != asked:
            yield f"{name} is {found.get(name, 'not set')}, asked for {name}={asked}"


def exposure(unit: str) -> float:
    """Return how exposed a service is, from 0 to 10, as systemd-analyze scores its unit."""
    said = _analyze("security", "--no-pager", "--offline=true", unit=unit)
    match = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert match is not None, f"systemd-analyze scores a unit: {said}"
    return float(match[1])


def exposure_problems(unit: str, limit: float) -> Iterator[str]:
    """Yield that a service is more exposed than it may be."""
    found = exposure(unit)
    if found > limit:
        yield f"exposure is {found}, not {limit} at most: systemd-analyze security --offline=true"


def unknown_settings(unit: str) -> Iterator[str]:
    """Yield what systemd does not understand in a unit; where Steppe is installed plays no part."""
    yield from _analyze("verify", "--man=no", unit=_PROGRAM.sub(sys.executable, unit)).splitlines()


def problems() -> Iterator[str]:
    """Yield everything that is wrong with the units."""
    has_systemd = shutil.which("systemd-analyze") is not None
    if not has_systemd:
        yield MISSING
    for path, limit in LIMITS.items():
        unit = path.read_text()
        for problem in (
            *sandbox_problems(unit, SANDBOXES[path]),
            *(undo_problems(unit) if path == AGENT else root_problems(unit)),
            *(() if path == AGENT else stop_problems(unit, _drain_s(path))),
            *((*unknown_settings(unit), *exposure_problems(unit, limit)) if has_systemd else ()),
        ):
            yield f"{path.name}: {problem}"


def _drain_s(path: Path) -> float:
    drain_s = GatewaySection().drain_s + CLOSE_S if path == DRIVER else ControlSection().drain_s
    return float(drain_s)


def _analyze(*arguments: str, unit: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checked.service"
        path.write_text(unit)
        done = subprocess.run(
            ["systemd-analyze", *arguments, str(path)],
            capture_output=True,
            text=True,
            timeout=ANALYZE_S,
            check=False,
        )
    return (done.stdout + done.stderr).replace(f"{folder}/", "")


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    found = list(problems())
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if not found:
        sys.stdout.write("units are sound\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
