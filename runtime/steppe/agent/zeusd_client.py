"""Limits through a running `zeusd`, the privileged daemon of Zeus, instead of Steppe's agent.

HTTP over a unix socket, after zeusd's HTTP API reference (ml.energy/zeus/zeusd/api, read in
November 2026). Tested against a fake server with that API, never against the real daemon. zeusd
has no lease: if Steppe is killed, its limits stay. Use it only where the agent cannot run
(`device.zeusd` in a run's configuration).
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket as sockets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from steppe.device.nvml import NvmlGpu
from steppe.device.pacing import CHANGE_PERIOD_S, ClockPace
from steppe.errors import (
    AgentError,
    DeviceError,
    NoPermissionError,
    NotSupportedError,
    OutOfRangeError,
    SteppeError,
)

ANSWER_S = 5.0
_KINDS: Mapping[int, type[SteppeError]] = {
    400: OutOfRangeError,
    401: NoPermissionError,
    403: NoPermissionError,
}

_log = logging.getLogger(__name__)


class ZeusdClient:
    """Sets limits as `AgentClient` does; keeps what it set and undoes it on `release`.

    GPUs are named to zeusd by their NVML index.
    """

    def __init__(
        self,
        socket: Path,
        gpus: Mapping[str, NvmlGpu],
        token_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Name the daemon.

        Args:
            socket: Where zeusd listens.
            gpus: The GPUs of this host, by UUID; limits are clamped to what they allow.
            token_file: File with the bearer token (scope `gpu-control`), if the daemon requires
                one; read for each request, because tokens are renewed.
            clock: Returns the time, s.
        """
        self._socket = socket
        self._gpus = gpus
        self._token_file = token_file
        self._clock = clock
        self._clock_limited: set[str] = set()
        self._paces: dict[str, ClockPace] = {}
        self._power_before_w: dict[str, float] = {}

    def check(self) -> None:
        """Check that the daemon listens and that the token can be read.

        Raises:
            AgentError: There is no daemon, or no token.
        """
        self._headers()
        line = _UnixConnection(self._socket)
        try:
            line.connect()
        except OSError as error:
            raise AgentError(f"{self._socket}: zeusd does not answer: {error}") from error
        finally:
            line.close()

    def set_clock_limit(self, uuid: str, clock_mhz: int) -> int:
        """Limit the SM clock; return the supported clock that was chosen, MHz.

        It is set at once, or by the first call one second after the last change (`ClockPace`).

        Raises:
            DeviceError: The GPU or the daemon refused.
            AgentError: There is no daemon, or it failed.
        """
        gpu = self._gpu(uuid)
        if not gpu.capabilities.has_clock_limit:
            raise NotSupportedError(f"{uuid}: asked for {clock_mhz} MHz, has no clock limit")
        accepted_mhz = gpu.capabilities.nearest_clock_mhz(clock_mhz)
        self._paces[uuid] = self._paces.get(uuid, ClockPace()).request(accepted_mhz)
        self._apply_due(uuid, gpu)
        return accepted_mhz

    def confirmed_mhz(self) -> dict[str, int]:
        """Return the clock limits that the GPUs are observed to obey, by UUID, MHz.

        Sets pending limits that are due, and limits that another process removed. A GPU that
        refuses, or that cannot be read, is left out.
        """
        found: dict[str, int] = {}
        for uuid in tuple(self._paces):
            try:
                self._confirm(uuid, found)
            except (DeviceError, AgentError) as error:
                _log.warning("clock limit of %s: %s", uuid, error)
        return found

    def set_power_limit(self, uuid: str, limit_w: float) -> float:
        """Set the board power limit; return the limit in force, W.

        Raises:
            DeviceError: The GPU or the daemon refused.
            AgentError: There is no daemon, or it failed.
        """
        gpu = self._gpu(uuid)
        accepted_w = gpu.capabilities.nearest_power_limit_w(limit_w)
        self._power_before_w.setdefault(uuid, gpu.power_limit_w())
        self._post("set_power_limit", gpu, power_limit_mw=round(accepted_w * 1e3))
        return gpu.enforced_power_limit_w()

    def reset(self, uuid: str | None = None) -> None:
        """Undo the limits on one GPU, or on all; a refusal does not stop the others.

        Raises:
            DeviceError: The GPU or the daemon refused; the message joins all refusals.
            AgentError: There is no daemon, or it failed.
        """
        errors: list[DeviceError | AgentError] = []
        for gpu in tuple(self._gpus.values()) if uuid is None else (self._gpu(uuid),):
            for undo in (self._undo_clock, self._undo_power):
                try:
                    undo(gpu)
                except (DeviceError, AgentError) as error:
                    errors.append(error)
        if errors:
            raise type(errors[0])("; ".join(dict.fromkeys(map(str, errors)))) from errors[0]

    def release(self) -> None:
        """Undo every limit that this client set."""
        self.reset()

    def __enter__(self) -> ZeusdClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _undo_clock(self, gpu: NvmlGpu) -> None:
        if gpu.uuid in self._clock_limited:
            self._post("reset_gpu_locked_clocks", gpu)
            self._clock_limited.discard(gpu.uuid)
            self._paces.pop(gpu.uuid, None)

    def _undo_power(self, gpu: NvmlGpu) -> None:
        before_w = self._power_before_w.get(gpu.uuid)
        if before_w is not None:
            self._post("set_power_limit", gpu, power_limit_mw=round(before_w * 1e3))
            del self._power_before_w[gpu.uuid]

    def _apply_due(self, uuid: str, gpu: NvmlGpu) -> None:
        """Set the pending clock limit if it is due; one that is refused is dropped."""
        pace, now_s = self._paces[uuid], self._clock()
        if pace.waiting_mhz is None or pace.due_s > now_s:
            return
        self._paces[uuid] = replace(pace, waiting_mhz=None)
        self._clock_limited.add(uuid)
        lowest_mhz = gpu.capabilities.sm_clocks_mhz[0]
        self._post(
            "set_gpu_locked_clocks", gpu, min_clock_mhz=lowest_mhz, max_clock_mhz=pace.waiting_mhz
        )
        self._paces[uuid] = pace.applied(now_s)

    def _confirm(self, uuid: str, found: dict[str, int]) -> None:
        """Add the limit of a GPU to `found` if its SM clock obeys; set it again if not."""
        gpu = self._gpu(uuid)
        self._apply_due(uuid, gpu)
        pace = self._paces[uuid]
        if pace.in_force_mhz is None:
            return
        if gpu.capabilities.obeys_clock_limit(gpu.sm_clock_mhz(), pace.in_force_mhz):
            found[uuid] = pace.in_force_mhz
        elif pace.waiting_mhz is None and self._clock() >= pace.changed_s + CHANGE_PERIOD_S:
            self._paces[uuid] = ClockPace(pace.changed_s, None, pace.in_force_mhz)
            self._apply_due(uuid, gpu)

    def _gpu(self, uuid: str) -> NvmlGpu:
        if uuid not in self._gpus:
            raise AgentError(f"asked for GPU {uuid}, found {', '.join(self._gpus) or 'none'}")
        return self._gpus[uuid]

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        except OSError as error:
            raise AgentError(f"{self._token_file}: no token: {error.strerror}") from error

    def _post(self, what: str, gpu: NvmlGpu, **numbers: int) -> None:
        """Request a change from the daemon, and wait until it is made."""
        query = urlencode({"gpu_ids": gpu.index, **numbers, "block": "true"})
        headers = self._headers()
        line = _UnixConnection(self._socket)
        try:
            line.request("POST", f"/gpu/{what}?{query}", headers=headers)
            answer = line.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise AgentError(f"{self._socket}: zeusd does not answer: {error}") from error
        finally:
            line.close()
        if answer.status != http.HTTPStatus.OK:
            kind = _KINDS.get(answer.status, AgentError)
            raise kind(f"zeusd {what} on GPU {gpu.index}: {answer.status} {_reason(body)}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(os.fspath(self._path))


def _reason(body: bytes) -> str:
    """Return the error in an answer of zeusd, which is JSON by device or plain text."""
    try:
        document: Any = json.loads(body)
    except ValueError:
        return " ".join(body.decode(errors="replace").split())
    errors = document.get("errors", document) if isinstance(document, dict) else document
    return json.dumps(errors)
