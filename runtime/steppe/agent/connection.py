"""One connection to the agent: one answer to each request."""

from __future__ import annotations

import os
import socket as sockets
import struct
import threading
from contextlib import suppress
from pathlib import Path

from steppe import errors
from steppe.agent.messages import (
    Answer,
    Pulse,
    RefusedAnswer,
    Request,
    decode_answer,
    encode_request,
)
from steppe.errors import AgentError, SteppeError

ANSWER_S = 5.0
_CREDENTIALS = struct.Struct("3i")


class AgentConnection:
    """A connection. The lease belongs to its connection: closing it ends the lease."""

    def __init__(self, socket: Path) -> None:
        """Connect.

        Raises:
            AgentError: No agent listens on the socket.
        """
        self._socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self._socket.settimeout(ANSWER_S)
        try:
            self._socket.connect(os.fspath(socket))
        except OSError as error:
            self._socket.close()
            raise AgentError(f"{socket}: no agent answers: {error}") from error
        self._answers = self._socket.makefile("rb")
        self._sending = threading.Lock()

    @property
    def agent_pid(self) -> int:
        """Process at the other end, from the socket's peer credentials."""
        size = _CREDENTIALS.size
        raw = self._socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, size)
        pid: int = _CREDENTIALS.unpack(raw)[0]
        return pid

    def ask(self, request: Request) -> Answer:
        """Send a request and return the answer.

        Raises:
            OSError: The agent is gone, or did not answer within `ANSWER_S`.
            SteppeError: The agent refused; the type is that of the error in the agent.
        """
        with suppress(BrokenPipeError):  # a refused connection is closed, but has a reason
            self._send(request)
        line = self._answers.readline()
        if not line:
            raise ConnectionResetError("the agent closed the connection")
        answer = decode_answer(line)
        if isinstance(answer, RefusedAnswer):
            raise _error_kind(answer.error)(answer.message)
        return answer

    def pulse(self) -> None:
        """Renew the lease; may be called by another thread while one waits for an answer.

        Raises:
            OSError: The agent is gone.
        """
        self._send(Pulse())

    def _send(self, request: Request) -> None:
        with self._sending:
            self._socket.sendall(encode_request(request))

    def close(self) -> None:
        """Close the connection."""
        self._answers.close()
        self._socket.close()

    def __enter__(self) -> AgentConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _error_kind(name: str) -> type[SteppeError]:
    kind = getattr(errors, name, AgentError)
    return kind if isinstance(kind, type) and issubclass(kind, SteppeError) else AgentError
