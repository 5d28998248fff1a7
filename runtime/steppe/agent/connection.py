"""One connection to the agent: a request, an answer."""

from __future__ import annotations

import os
import socket as sockets
import struct
from contextlib import suppress
from pathlib import Path

from steppe import errors
from steppe.agent.messages import Answer, RefusedAnswer, Request, decode_answer, encode_request
from steppe.errors import AgentError, SteppeError

ANSWER_S = 5.0
_CREDENTIALS = struct.Struct("3i")


class AgentConnection:
    """A connection; the lease belongs to the one that took it, so hanging up gives it up."""

    def __init__(self, socket: Path) -> None:
        """Call the agent.

        Raises:
            AgentError: Nobody answers there.
        """
        self._socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self._socket.settimeout(ANSWER_S)
        try:
            self._socket.connect(os.fspath(socket))
        except OSError as error:
            self._socket.close()
            raise AgentError(f"{socket}: no agent answers: {error}") from error
        self._answers = self._socket.makefile("rb")

    @property
    def agent_pid(self) -> int:
        """Process that listens at the other end, as the kernel says."""
        size = _CREDENTIALS.size
        raw = self._socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, size)
        pid: int = _CREDENTIALS.unpack(raw)[0]
        return pid

    def ask(self, request: Request) -> Answer:
        """Send a request and return the answer.

        Raises:
            OSError: The agent is gone, or says nothing for `ANSWER_S`: call again.
            SteppeError: The agent refused; the error is the one that it met.
        """
        with suppress(BrokenPipeError):  # who turns us away hangs up, but says why first
            self._socket.sendall(encode_request(request))
        line = self._answers.readline()
        if not line:
            raise ConnectionResetError("the agent hung up")
        answer = decode_answer(line)
        if isinstance(answer, RefusedAnswer):
            raise _error_kind(answer.error)(answer.message)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()

    def __enter__(self) -> AgentConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _error_kind(name: str) -> type[SteppeError]:
    kind = getattr(errors, name, AgentError)
    return kind if isinstance(kind, type) and issubclass(kind, SteppeError) else AgentError
