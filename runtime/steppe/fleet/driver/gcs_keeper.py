"""Starts the GCS of the cluster of a run again when it dies or hangs.

The GCS keeps its tables on disk (`gcs_storage: rocksdb`, which Ray calls an alpha feature), and the
next one listens on the same port, so that raylets, actors and drivers find it again.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steppe.fleet.orphan_processes import Process, process_of

LOOK_S = 0.2
"""Time between two looks at the process, s."""
HUNG_S = 10.0
"""A GCS that is stopped for so long is ended, s."""
MOST_STARTS, WITHIN_S = 3, 120.0
"""A GCS that has died so often within so long is not started again."""
_PORT = re.compile(r"--gcs_server_port=\d+")

_log = logging.getLogger(__name__)


def storage_config(folder: Path) -> dict[str, Any]:
    """Return the part of Ray's system configuration that lets a GCS keep its tables in a folder."""
    return {"gcs_storage": "rocksdb", "gcs_storage_path": str(folder)}


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How a server was started.

    Attributes:
        command: The command and its arguments.
        environment: Its environment.
        outputs: Where its standard output and its errors go.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    outputs: tuple[str, str]

    @classmethod
    def of_gcs(cls, process: Process, address: str) -> ServerCommand:
        """Read how a running GCS was started; the next one listens on the same port.

        Args:
            process: The GCS.
            address: Where it listens, `host:port`.

        Raises:
            OSError: It has ended.
        """
        folder = Path(f"/proc/{process.number}")
        port = address.rpartition(":")[2]
        words = (folder / "cmdline").read_text().rstrip("\0").split("\0")
        pairs = (folder / "environ").read_text(errors="replace").split("\0")
        return cls(
            tuple(_PORT.sub(f"--gcs_server_port={port}", word) for word in words),
            dict(pair.split("=", 1) for pair in pairs if "=" in pair),
            (os.readlink(folder / "fd" / "1"), os.readlink(folder / "fd" / "2")),
        )

    def start(self) -> Process:
        """Start it, in a process group of its own, and return it.

        Raises:
            OSError: It cannot be started.
        """
        with open(self.outputs[0], "ab") as output, open(self.outputs[1], "ab") as errors:
            child = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                process_group=0,  # Ctrl-C in a terminal is not for it
            )
        # It is waited for, so that it leaves the table of processes when it ends.
        threading.Thread(target=child.wait, daemon=True, name="gcs-end").start()
        return process_of(child.pid)


class GcsKeeper:
    """Watches the GCS from a thread of its own: calls to Ray may wait for it.

    Attributes:
        process: The GCS of now; it may have ended.
        restarts: How often it was started again.
    """

    def __init__(
        self,
        process: Process,
        start: Callable[[], Process],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `start` starts the thread.

        Args:
            process: The GCS.
            start: Starts another one.
            clock: Returns monotonic time, s.
        """
        self.process, self.restarts = process, 0
        self._start_another, self._clock = start, clock
        self._started_s: list[float] = []
        self._stopped_s: float | None = None
        self._has_given_up = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True, name="gcs-keeper")

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; the GCS goes on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def has_given_up(self) -> bool:
        """Whether a GCS that dies is not started again."""
        return self._has_given_up

    def look(self) -> None:
        """Look once: end a GCS that is stopped, and start another for one that has ended."""
        now_s = self._clock()
        if not self.process.is_stopped:
            self._stopped_s = None
        elif self._stopped_s is None:
            self._stopped_s = now_s
        elif now_s - self._stopped_s >= HUNG_S:
            _log.warning("Ray's GCS is stopped for %.0f s: it is ended", now_s - self._stopped_s)
            with suppress(ProcessLookupError):
                os.kill(self.process.number, signal.SIGKILL)
        if not self.process.is_alive and not self._has_given_up:
            self._restart(now_s)

    def _restart(self, now_s: float) -> None:
        self._started_s = [at_s for at_s in self._started_s if now_s - at_s < WITHIN_S]
        if len(self._started_s) >= MOST_STARTS:
            _log.error("Ray's GCS has died %d times within %.0f s", MOST_STARTS + 1, WITHIN_S)
            self._has_given_up = True
            return
        self._started_s.append(now_s)
        try:
            self.process = self._start_another()
        except OSError as error:
            _log.error("Ray's GCS cannot be started again: %s", error)
            self._has_given_up = True
            return
        self.restarts += 1
        _log.warning("Ray's GCS has died, and was started again")

    def _look_on(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()
