"""Runs a witness of logs until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from steppe.agent.journal_lines import log_to_stderr
from steppe.errors import UsageError
from steppe.ledger.signing import ED25519, PrivateKey, PublicKey
from steppe.ledger.witnesses.folder import WitnessFolder
from steppe.ledger.witnesses.server import WitnessServer
from steppe.run.ledger import keys_of


@dataclass(frozen=True, slots=True)
class WitnessPlan:
    """How a witness runs.

    Attributes:
        key: File of its private key.
        logs: Public keys of the logs, or files of them; the name of a log is that of its keys.
        folder: Where it keeps what it signed.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
    """

    key: Path
    logs: Sequence[str]
    folder: Path
    host: str
    port: int


def serve_witness(plan: WitnessPlan, on_start: Callable[[str, PublicKey], None]) -> None:
    """Sign the heads of logs until SIGINT or SIGTERM.

    Args:
        plan: How it runs.
        on_start: Called with the URL and the public key when it listens.

    Raises:
        UsageError: A key or the folder cannot be used, or the address is in use.
    """
    key, logs = PrivateKey.read(plan.key), logs_of(keys_of(plan.logs))
    log_to_stderr()
    folder = WitnessFolder(plan.folder)
    try:
        server = WitnessServer(folder, key, logs)
        asyncio.run(_serve(server, plan, lambda url: on_start(url, key.public)))
    finally:
        folder.close()


def logs_of(keys: Sequence[PublicKey]) -> dict[str, tuple[PublicKey, ...]]:
    """Return the keys of each log, by its name: several while keys change.

    Raises:
        UsageError: One is the key of a witness.
    """
    logs: dict[str, tuple[PublicKey, ...]] = {}
    for key in keys:
        if key.algorithm != ED25519:
            raise UsageError(f"--log {key.name}: asked for the key of a log, found a witness's")
        logs[key.name] = (*logs.get(key.name, ()), key)
    return logs


async def _serve(server: WitnessServer, plan: WitnessPlan, on_start: Callable[[str], None]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        on_start(await server.start(plan.host, plan.port))
        await stop.wait()
    finally:
        await server.stop()
        for number in signals:
            loop.remove_signal_handler(number)
