from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class FakeOpenAI(ThreadingHTTPServer):
    """Serves one model; its answers are scripted by the attributes."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.models = ["small"]
        self.bodies: list[dict[str, Any]] = []
        self.came_s: list[float] = []
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.refusal = b'{"error": {"message": "no"}}'
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.break_off = False
        self.lock = threading.Lock()
        self.running = 0
        self.most_running = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeOpenAI

    def do_GET(self) -> None:
        names = [{"id": name} for name in self.server.models]
        self._reply(200, {}, json.dumps({"data": names}).encode())

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.came_s.append(time.monotonic())
            server.bodies.append(body)
            refusal = server.refusals.pop(0) if server.refusals else None
            server.running += 1
            server.most_running = max(server.most_running, server.running)
        server.may_answer.wait(10)
        if refusal is not None:
            self._reply(*refusal, server.refusal)
        else:
            self._reply(200, {"Content-Type": "text/event-stream"}, self._stream(body))
        with server.lock:
            server.running -= 1

    def _stream(self, body: dict[str, Any]) -> bytes:
        tokens = body["max_tokens"]
        words = len(body["messages"][0]["content"].split())
        deltas = [{"role": "assistant", "content": ""}, *[{"content": "a "}] * tokens]
        events: list[Any] = [{"choices": [{"delta": delta}]} for delta in deltas]
        events.append({"choices": [{"delta": {}, "finish_reason": "length"}]})
        usage = {"prompt_tokens": words + 30, "completion_tokens": tokens}
        events.append({"choices": [], "usage": usage})
        lines = [b"data: " + json.dumps(event).encode() for event in events]
        kept = lines[:3] if self.server.break_off else [*lines, b"data: [DONE]"]
        return b"\n\n".join(kept) + b"\n\n"

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Keep the test output clean."""


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        fake.may_answer.set()
        fake.shutdown()
        thread.join()
