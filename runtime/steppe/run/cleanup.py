"""A small process that cleans up after a run whose own process was killed.

The run holds the write end of a pipe and says over it what there is to clean up. At its normal end
it says so, too. If the pipe ends without that, the run was killed: this process waits for what ends
by itself, kills the rest of the Ray cluster that was started for the run, removes the files in
memory, with the limits that they name, and closes the record.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from steppe.errors import SteppeError
from steppe.fleet.orphan_processes import Process, end_orphan_processes, processes_of
from steppe.fleet.stale_runs import gpus_file, remove_stale_runs, state_folder

WAIT_S = 10.0
"""How long the processes of a cluster may take to end after their driver, s."""
FILES_S = 30.0
"""How long the files of a run may be in use after that, s: an agent undoes its limits first."""
_POLL_S = 0.5

_log = logging.getLogger(__name__)


class CleanupPipe:
    """The write end of the pipe to the process that cleans up.

    It acts when no process has this end open any more, and none has said that the run is done.
    """

    def __init__(self, number: int) -> None:
        """Use an open file descriptor; no child process gets it by accident."""
        self.number = number
        os.set_inheritable(number, False)

    def say(self, **facts: str) -> None:
        """Say what there is: `session` of Ray, folder of the `record`, or that it is `done`."""
        try:
            os.write(self.number, json.dumps(facts).encode() + b"\n")
        except OSError as error:
            _log.warning("nothing would clean up after this run: %s", error)


class Cleanup:
    """The run's side: starts the process and sends it what there is; a context manager.

    The process is in the run's kernel session, as the cluster is, and in a group of its own.
    """

    def __init__(self) -> None:
        """Start the process."""
        command = [sys.executable, "-m", "steppe.run.cleanup", str(os.getpid())]
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C in a terminal is not for it
        )
        assert self._process.stdin is not None
        self._pipe = CleanupPipe(self._process.stdin.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.say(done="")
        self.close()

    @property
    def pipe(self) -> int:
        """The file descriptor of the write end."""
        return self._pipe.number

    def say(self, **facts: str) -> None:
        """Say what there is, see `CleanupPipe.say`."""
        self._pipe.say(**facts)

    def close(self) -> None:
        """Close the write end of this process, and wait until the other one has cleaned up."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def watch(run: int, facts: IO[bytes]) -> bool:
    """Wait for the end of a run; clean up if it was killed, and return whether it was.

    Args:
        run: Its process id.
        facts: The pipe from it.
    """
    known: dict[str, str] = {}
    processes: frozenset[Process] = frozenset()
    for line in facts:
        known |= json.loads(line)
        # Ray's own agents are known by their parent only, while that is alive.
        processes |= processes_of(known["session"]) if "session" in known else frozenset()
    if "done" in known:
        return False
    if "session" in known:
        processes |= processes_of(known["session"])
        end_orphan_processes(known["session"], processes, WAIT_S)
    gpus_file(run).unlink(missing_ok=True)
    remove_files(run, FILES_S)
    if "record" in known:
        _close_record(Path(known["record"]))
    return True


def remove_files(run: int, within_s: float, ended: int | None = None) -> None:
    """Remove the files in memory of a run that is over, as soon as they are not in use any more.

    Args:
        run: Its process id.
        within_s: Longest wait, s: an agent that outlives the run undoes its limits first.
        ended: A process that is alive although its run is over.
    """
    give_up_s = time.monotonic() + within_s
    while True:
        remove_stale_runs(state_folder(), ended=ended)
        left = any(
            any(state_folder().glob(name)) for name in (f"steppe-*-{run}", f"steppe-*-{run}-*")
        )
        if not left or time.monotonic() > give_up_s:
            return
        time.sleep(_POLL_S)


def _close_record(folder: Path) -> None:
    from steppe.report.broken_off import close_broken_record  # it needs matplotlib: only now

    try:
        close_broken_record(folder)
    except (SteppeError, OSError) as error:
        _log.warning("%s: the record cannot be closed: %s", folder, error)


def main() -> None:
    """Watch the run whose process id is the argument."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(int(sys.argv[1]), sys.stdin.buffer)


if __name__ == "__main__":
    main()
