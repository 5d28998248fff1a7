"""The HTTP server of a witness: `POST /add-checkpoint` of `c2sp.org/tlog-witness`.

One request is decided at a time: the check of a checkpoint against the last one, and bringing it to
disk, are one step.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from aiohttp import web

from steppe.errors import SteppeError, UsageError
from steppe.ledger.log.checkpoint import Checkpoint
from steppe.ledger.log.witness import (
    SIZE_TYPE,
    AddCheckpoint,
    ForkError,
    OldSizeError,
    Witness,
    WitnessRefusedError,
)
from steppe.ledger.signing import COSIGNATURE, Note, PrivateKey, PublicKey
from steppe.ledger.witnesses.folder import WitnessFolder

PATH = "/add-checkpoint"
BODY_BYTES = 1 << 16
"""Largest body, bytes; a request has some 4 kB at most, and signatures of others."""
_SHUTDOWN_S = 2.0

_log = logging.getLogger(__name__)


class WitnessServer:
    """Signs the heads of some logs, and only those of one history of each."""

    def __init__(
        self,
        folder: WitnessFolder,
        key: PrivateKey,
        logs: Mapping[str, tuple[PublicKey, ...]],
        epoch_s: Callable[[], float] = time.time,
    ) -> None:
        """Take up what was signed before.

        Args:
            folder: Where it is kept.
            key: The key of the witness.
            logs: The keys of each log, by its name.
            epoch_s: Reads the time, s since the Unix epoch.

        Raises:
            UsageError: The key is not that of a witness, or a file is damaged.
        """
        if key.algorithm != COSIGNATURE:
            asked = "asked for the key of a witness (`steppe ledger keys new --witness`)"
            raise UsageError(f"{key.name}: {asked}, found that of a log")
        self._folder, self._epoch_s = folder, epoch_s
        self._witness = Witness(key, logs, folder.heads(logs))
        self._turn = asyncio.Lock()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen; return the URL.

        Args:
            host: Address of this host.
            port: The port; 0 takes a free one.

        Raises:
            UsageError: The address is in use, or is none of this host.
        """
        application = web.Application(client_max_size=BODY_BYTES)
        application.router.add_post(PATH, self._add)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            found = error.strerror or error
            raise UsageError(f"witness: cannot listen on {host}:{port}: {found}") from error
        address, found_port = self._runner.addresses[0][:2]
        return f"http://{address}:{found_port}"

    async def stop(self) -> None:
        """Stop listening; requests that are being decided are answered."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None

    async def _add(self, request: web.Request) -> web.Response:
        try:
            asked = AddCheckpoint.read((await request.read()).decode())
            async with self._turn:
                line = await asyncio.to_thread(self._sign, asked)
        except UnicodeDecodeError:
            return _refusal("add-checkpoint: asked for text, found other bytes", 400)
        except OldSizeError as error:
            return web.Response(
                status=error.status, body=f"{error.size}\n".encode(), content_type=SIZE_TYPE
            )
        except WitnessRefusedError as error:
            _log.warning("%s", error)
            return _refusal(str(error), error.status)
        except SteppeError as error:  # the disk: nothing was signed
            _log.error("witness: %s", error)
            return _refusal("witness: its disk cannot be written now", 503)
        return web.Response(text=line)

    def _sign(self, asked: AddCheckpoint) -> str:
        """Return the line of the cosignature of a checkpoint, which is on disk then.

        Raises:
            RefusedError: It is not signed.
            DiskFullError: No space is left.
            UsageError: It cannot be written.
        """
        try:
            after, signature = self._witness.add(asked, int(self._epoch_s()))
        except ForkError:
            path = self._folder.keep_fork(_origin(asked), asked.note)
            _log.error("%s: evidence of a fork", path)
            raise
        origin = _origin(asked)
        if after.heads[origin] != self._witness.heads.get(origin):
            self._folder.keep(origin, asked.note)
        self._witness = after
        return signature.line


def _origin(asked: AddCheckpoint) -> str:
    return Checkpoint.read(Note.read(asked.note).text).origin


def _refusal(message: str, status: int) -> web.Response:
    return web.Response(text=message + "\n", status=status)
