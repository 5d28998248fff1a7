"""The ledger service in a process of its own, which a benchmark kills and starts again.

Bookings come and their numbers go through a pipe, as in a run they do by calls of Ray; all else is
asked by HTTP.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from steppe.config import LedgerSection
from steppe.errors import SteppeError
from steppe.ledger.booking import Booking
from steppe.ledger.service.service import LedgerService
from steppe.ledger.service.settings import LedgerSettings

SITE = "hohhot"


@dataclass(frozen=True, slots=True)
class LedgerFolder:
    """Where a ledger is, and its clock.

    Attributes:
        path: Its folder.
        tariff: The file of its tariff.
        ahead_us: How far its clock is ahead of this machine's, us.
        hold_s: Time after which a hold is given back, s.
    """

    path: Path
    tariff: Path
    ahead_us: int
    hold_s: float

    @property
    def settings(self) -> LedgerSettings:
        """How the service is set up."""
        section = LedgerSection.model_validate(
            {"site": SITE, "tariffs": [self.tariff], "hold_s": self.hold_s}
        )
        return LedgerSettings(section, self.path)


@dataclass(frozen=True, slots=True)
class Started:
    """The service listens."""

    url: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The service has all bookings up to a number on disk."""

    number: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The service could not do what was asked; nothing of it was done."""

    problem: str


Message = Started | Acknowledged | Failed


class LedgerProcess:
    """A process of the service; `pipe` has its messages."""

    def __init__(self, folder: LedgerFolder) -> None:
        """Start it; it says so when it listens."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["ledger_process"])  # a start is not 1 s of imports
        self.pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_run, args=(folder, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    def hand_over(self, booking: Booking) -> None:
        """Send a booking; if the process is dead, it is lost."""
        try:
            self.pipe.send(booking)
        except OSError:
            return

    def ask_to_stop(self) -> None:
        """Let it publish what is left, and end."""
        self.pipe.send(None)

    def limit_files(self, most_bytes: int | None) -> None:
        """Let no file of it grow beyond a size, as on a full disk; None lifts that."""
        most = resource.RLIM_INFINITY if most_bytes is None else most_bytes
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self.wait()

    def wait(self) -> None:
        """Wait for its end."""
        self._process.join()

    def read(self) -> list[Message]:
        """Return the messages that have come; those of a killed process may end in the middle."""
        found: list[Message] = []
        try:
            while self.pipe.poll():
                found.append(self.pipe.recv())
        except (EOFError, OSError):
            return found
        return found


def _run(folder: LedgerFolder, pipe: Connection) -> None:
    asyncio.run(_serve(folder, pipe))


async def _serve(folder: LedgerFolder, pipe: Connection) -> None:
    service = LedgerService(folder.settings, lambda: time.time_ns() + folder.ahead_us * 1_000)
    try:
        pipe.send(Started(await service.start()))
    except SteppeError as error:
        pipe.send(Failed(str(error)))
        return
    asked: asyncio.Queue[Booking | None] = asyncio.Queue()
    loop, calls = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    threading.Thread(target=_read, args=(pipe, loop, asked), daemon=True).start()
    while (booking := await asked.get()) is not None:
        call = asyncio.create_task(_take(service, booking, pipe))
        calls.add(call)
        call.add_done_callback(calls.discard)
    await service.stop()


def _read(pipe: Connection, loop: asyncio.AbstractEventLoop, asked: asyncio.Queue[Any]) -> None:
    booking: Booking | None = None
    while True:
        try:
            booking = pipe.recv()
        except EOFError:
            booking = None
        loop.call_soon_threadsafe(asked.put_nowait, booking)
        if booking is None:
            return


async def _take(service: LedgerService, booking: Booking, pipe: Connection) -> None:
    try:
        answer: Message = Acknowledged(await service.take(booking))
    except SteppeError as error:
        answer = Failed(str(error))
    pipe.send(answer)
