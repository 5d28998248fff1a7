"""Meters as peers: a Prometheus server over HTTP, and pymodbus' own server."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


class Prometheus(ThreadingHTTPServer):
    """Answers each query with the value that a test gives it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.values: dict[str, object] = {}
        self.token = ""
        self.goes_to = ""
        self.open = threading.Event()
        self.open.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Prometheus

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)["query"][0]
        self.server.open.wait(20)
        if self.server.goes_to:
            self.send_response(307)
            self.send_header("Location", self.server.goes_to + self.path)
            self.end_headers()
            return
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            self.send_error(401)
            return
        value = self.server.values.get(query)
        result = [] if value is None else [{"metric": {}, "value": [0, str(value)]}]
        data = {"resultType": "vector", "result": result}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"status": "success", "data": data}).encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with Prometheus() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.open.set()
        server.shutdown()
        thread.join()


class ModbusPeer:
    """pymodbus' server with registers that a test writes, in a thread of its own."""

    def __init__(self) -> None:
        self.registers: dict[int, int] = {}
        self.reads = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server: ModbusTcpServer | None = None

    def write(self, address: int, *words: int) -> None:
        self.registers.update({address + at: word & 0xFFFF for at, word in enumerate(words)})

    def write_float(self, address: int, value: float) -> None:
        self.write(address, *struct.unpack(">2H", struct.pack(">f", value)))

    def start(self) -> None:
        async def serve() -> None:
            device = SimDevice(
                1, [SimData(0, count=65536, datatype=DataType.REGISTERS)], action=self._answer
            )
            self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
            await self._server.serve_forever(background=True)
            listening: Any = self._server.transport
            self.port = listening.sockets[0].getsockname()[1]

        asyncio.run_coroutine_threadsafe(serve(), self._loop).result(10)

    def stop(self) -> None:
        server: Any = self._server
        if server is not None:
            asyncio.run_coroutine_threadsafe(server.shutdown(), self._loop).result(10)
            self._server = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _answer(
        self, _code: int, begin: int, address: int, count: int, present: list[int], _written: Any
    ) -> ExcCodes | None:
        self.reads += 1
        asked = range(address, address + count)
        if any(at not in self.registers for at in asked):
            return ExcCodes.ILLEGAL_ADDRESS
        for at in asked:
            present[at - begin] = self.registers[at]
        return None


@pytest.fixture
def peer() -> Iterator[ModbusPeer]:
    made = ModbusPeer()
    made.start()
    yield made
    made.close()


Wait = Callable[[Callable[[], object]], None]


@pytest.fixture
def wait_for() -> Wait:
    """Wait until a condition holds."""

    def wait(condition: Callable[[], object]) -> None:
        until_s = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < until_s, "the condition never held"
            time.sleep(0.005)

    return wait
