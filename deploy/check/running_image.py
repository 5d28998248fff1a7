"""Start an image as a cluster would: its user, a read-only root, no privilege but those named."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.check.image_store import ImageConfig, ImageError

WAIT_S = 180.0
"""Longest time for something to become true in a container, s."""
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start an image.

    Attributes:
        root: The root of its container.
        config: What the image says about its start.
        folders: Folders of the host that it may write, by their path in it.
        environment: Variables beside those of the image.
        arguments: Arguments in place of those of the image; None for those of the image.
        capabilities: Its capabilities, such as sys_admin, if it runs as root.
    """

    root: Path
    config: ImageConfig
    folders: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] | None = None
    capabilities: Sequence[str] = ()

    @property
    def command(self) -> list[str]:
        """What runs in the container."""
        arguments = self.config.arguments if self.arguments is None else self.arguments
        return [*self.config.entrypoint, *arguments]

    @property
    def script(self) -> str:
        """A shell script that prepares the root in namespaces of its own, and enters it."""
        root = shlex.quote(str(self.root))
        mounts = [
            f"mkdir -p {root}{inside} && mount --bind {shlex.quote(str(outside))} {root}{inside}"
            for inside, outside in self.folders.items()
        ]
        user, _, group = (self.config.user or "0:0").partition(":")
        bounding = ",".join(("-all", *(f"+{name}" for name in self.capabilities)))
        variables = {**self.config.environment, **self.environment}
        words = [
            *("setpriv", "--reuid", user, "--regid", group or user, "--clear-groups"),
            *("--no-new-privs", f"--bounding-set={bounding}", "--inh-caps=-all"),
            *("env", "-i", "-C", self.config.folder),
            *(f"{name}={value}" for name, value in variables.items()),
            *self.command,
        ]
        return "\n".join(
            (
                "set -eu",
                f"mount --bind {root} {root}",
                *mounts,
                f"mount -o remount,bind,ro {root}",
                f"mount -t proc proc {root}/proc",
                f"mount --rbind /dev {root}/dev",
                f"mount -t tmpfs tmpfs {root}/dev/shm",
                f"exec chroot {root} {shlex.join(words)}",
            )
        )


@dataclass(frozen=True, slots=True)
class Container:
    """A running image.

    Attributes:
        process: The process that entered the namespaces.
        log: File with all that the container has printed.
    """

    process: subprocess.Popen[bytes]
    log: Path

    def wait_until(self, is_true: Callable[[], bool], what: str, within_s: float = WAIT_S) -> None:
        """Wait for something.

        Raises:
            ImageError: The container ended before, or it took too long.
        """
        end_s = time.monotonic() + within_s
        while not is_true():
            if self.process.poll() is not None:
                raise ImageError(f"ended with {self.process.returncode} before {what}: {self.tail}")
            if time.monotonic() > end_s:
                raise ImageError(f"waited {within_s:.0f} s until {what}: {self.tail}")
            time.sleep(POLL_S)

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = WAIT_S) -> int:
        """Send the first process a signal; return the exit code.

        Raises:
            ImageError: It has not ended in time.
        """
        os.kill(self.first_pid, number)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired as error:
            raise ImageError(f"did not end within {within_s:.0f} s: {self.tail}") from error

    def status(self) -> dict[str, str]:
        """Return what the kernel says about the first process, such as its user."""
        lines = Path(f"/proc/{self.first_pid}/status").read_text().splitlines()
        pairs = (line.partition(":") for line in lines)
        return {name: " ".join(value.split()) for name, _, value in pairs}

    @property
    def tail(self) -> str:
        """The last lines that it has printed."""
        return " / ".join(self.log.read_text(errors="replace").strip().splitlines()[-5:])

    @property
    def first_pid(self) -> int:
        """The id that the host knows the first process by."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


@contextmanager
def running(launch: Launch, log: Path) -> Iterator[Container]:
    """Start an image; what still runs at the end of the block is killed."""
    namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*namespaces, "sh", "-c", launch.script],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Container(process, log)
    finally:
        process.kill()
        process.wait()


def output_of(launch: Launch, log: Path) -> str:
    """Return what an image prints until it ends.

    Raises:
        ImageError: It failed, or has not ended in time.
    """
    with running(launch, log) as container:
        try:
            code = container.process.wait(WAIT_S)
        except subprocess.TimeoutExpired as error:
            raise ImageError(f"no end within {WAIT_S:.0f} s: {container.tail}") from error
    if code != 0:
        raise ImageError(f"{' '.join(launch.command)} ended with {code}: {container.tail}")
    return log.read_text()
