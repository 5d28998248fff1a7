"""Limits through a running `zeusd`, Zeus's privileged daemon, instead of our own agent.

HTTP over a unix socket, after zeusd's HTTP API reference (ml.energy/zeus/zeusd/api, read in
November 2026). Tested against a fake that answers so; never against the real daemon. It has no
lease: when we are killed, our limits stay. Use it only where the agent cannot run.
"""

from __future__ import annotations

import http.client
import json
import os
import socket as sockets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from steppe.device.nvml import NvmlGpu
from steppe.errors import (
    AgentError,
    NoPermissionError,
    NotSupportedError,
    OutOfRangeError,
    SteppeError,
)

DEFAULT_SOCKET = Path("/run/zeusd/zeusd.sock")
ANSWER_S = 5.0
_KINDS: Mapping[int, type[SteppeError]] = {
    400: OutOfRangeError,
    401: NoPermissionError,
    403: NoPermissionError,
}


class ZeusdClient:
    """Sets limits as `AgentClient` does; knows what it set and undoes it on `release`.

    GPUs are named to zeusd by their NVML index.
    """

    def __init__(self, socket: Path, gpus: Mapping[str, NvmlGpu], token: str | None = None) -> None:
        """Name the daemon.

        Args:
            socket: Where zeusd listens.
            gpus: The GPUs of this host, by UUID; limits are clamped to what they allow.
            token: Bearer token with the scope `gpu-control`, where the daemon asks for one.
        """
        self._socket = socket
        self._gpus = gpus
        self._token = token
        self._clock_limited: set[str] = set()
        self._power_before_w: dict[str, float] = {}

    def set_clock_limit(self, uuid: str, clock_mhz: int) -> int:
        """Limit the SM clock; return the supported clock that is taken, MHz.

        Raises:
            DeviceError: The GPU or the daemon refused.
            AgentError: There is no daemon, or it failed.
        """
        gpu = self._gpu(uuid)
        if not gpu.capabilities.has_clock_limit:
            raise NotSupportedError(f"{uuid}: asked for {clock_mhz} MHz, has no clock limit")
        accepted_mhz = gpu.capabilities.nearest_clock_mhz(clock_mhz)
        lowest_mhz = gpu.capabilities.sm_clocks_mhz[0]
        self._clock_limited.add(uuid)
        self._post(
            "set_gpu_locked_clocks", gpu, min_clock_mhz=lowest_mhz, max_clock_mhz=accepted_mhz
        )
        return accepted_mhz

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
        """Undo our limits on one GPU, or on all.

        Raises:
            DeviceError: The GPU or the daemon refused.
            AgentError: There is no daemon, or it failed.
        """
        for name in tuple(self._gpus) if uuid is None else (uuid,):
            gpu = self._gpu(name)
            if name in self._clock_limited:
                self._post("reset_gpu_locked_clocks", gpu)
                self._clock_limited.discard(name)
            if name in self._power_before_w:
                before_w = self._power_before_w[name]
                self._post("set_power_limit", gpu, power_limit_mw=round(before_w * 1e3))
                del self._power_before_w[name]

    def release(self) -> None:
        """Undo everything of ours."""
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

    def _gpu(self, uuid: str) -> NvmlGpu:
        if uuid not in self._gpus:
            raise AgentError(f"asked for GPU {uuid}, found {', '.join(self._gpus) or 'none'}")
        return self._gpus[uuid]

    def _post(self, what: str, gpu: NvmlGpu, **numbers: int) -> None:
        """Ask the daemon for a change, and wait until it is made."""
        query = urlencode({"gpu_ids": gpu.index, **numbers, "block": "true"})
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
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
    """Return what zeusd says went wrong, which is JSON by device or plain text."""
    try:
        document: Any = json.loads(body)
    except ValueError:
        return " ".join(body.decode(errors="replace").split())
    errors = document.get("errors", document) if isinstance(document, dict) else document
    return json.dumps(errors)
