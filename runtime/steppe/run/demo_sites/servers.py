"""The processes of the sites: one `steppe serve` each, started and ended together."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from steppe.errors import StartError
from steppe.run.demo_sites.places import Place
from steppe.run.demo_sites.watchdog import Watchdog
from steppe.run.signals import ignoring_signals

END_S = 90.0
"""Longest time that a site may take to end, s: it closes its gateway, its books and its cluster."""
_KILL_S = 5.0


@dataclass(slots=True)
class Server:
    """The process of a site.

    Attributes:
        place: The site.
        process: Its process, in a kernel session of its own.
    """

    place: Place
    process: subprocess.Popen[bytes]

    @property
    def last_line(self) -> str:
        """The last line that it has printed."""
        return last_line(self.place.log)

    @property
    def has_begun(self) -> bool:
        """Whether it serves."""
        with suppress(OSError):
            return b"serving on" in self.place.log.read_bytes()
        return False

    def check(self) -> None:
        """Check that it runs.

        Raises:
            StartError: It has ended.
        """
        if (code := self.process.poll()) is not None:
            found = f"found it ended with code {code}: {self.last_line or 'nothing printed'}"
            raise StartError(f"{self.place.name}: asked for a site that serves, {found}")

    def kill(self) -> None:
        """Kill its process on the spot; another process of the site then cleans up after it."""
        self.process.kill()


Servers = Mapping[str, Server]


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty."""
    with suppress(OSError):
        lines = log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


@contextmanager
def running_servers(places: Mapping[str, Place]) -> Generator[dict[str, Server]]:
    """Start the sites, and end them with the block, whatever happens.

    If this process is killed, another one ends them.

    Args:
        places: The sites by name.
    """
    servers: dict[str, Server] = {}
    with Watchdog() as watchdog:
        try:
            for name, place in places.items():
                servers[name] = Server(place, _start(place))
                watchdog.watch(servers[name].process.pid)
            yield servers
        finally:
            with ignoring_signals():
                end_servers(servers)


def _start(place: Place) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "steppe", "serve", str(place.run_file)]
    with place.log.open("wb") as log:
        return subprocess.Popen(
            [*command, "--record", str(place.record)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def end_servers(servers: Servers, clock: Callable[[], float] = time.monotonic) -> dict[str, int]:
    """End all sites that still run, as Ctrl-C does; return their exit codes.

    One that does not end in time is killed; what cleans up after it is another process.

    Args:
        servers: The sites.
        clock: Returns monotonic time, s.
    """
    for server in servers.values():
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGINT)
    give_up_s = clock() + END_S
    for server in servers.values():
        try:
            server.process.wait(max(0.1, give_up_s - clock()))
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait(_KILL_S)
    return {name: server.process.returncode for name, server in servers.items()}
