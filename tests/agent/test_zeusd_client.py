"""Against a fake that answers as zeusd's API reference says; never against the real daemon."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent.zeusd_client import ZeusdClient
from steppe.device.nvml import open_gpus
from steppe.errors import AgentError, NoPermissionError, NotSupportedError, OutOfRangeError


class FakeZeusd(socketserver.ThreadingUnixStreamServer):
    """Does what it is asked to the emulated GPUs, and remembers it."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Answer)
        self.gpus = open_gpus()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.tokens: list[str | None] = []
        self.status, self.body = 200, b""
        self.refused: tuple[str, str] | None = None  # what, and of which GPU


class _Answer(BaseHTTPRequestHandler):
    server: FakeZeusd

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.asked.append((url.path, query))
        self.server.tokens.append(self.headers["Authorization"])
        gpu = self.server.gpus[int(query["gpu_ids"])]
        status, body = self.server.status, self.server.body
        if self.server.refused == (url.path, query["gpu_ids"]):
            status, body = 500, b"no such luck"
        if status == 200:
            match url.path:
                case "/gpu/set_power_limit":
                    gpu.set_power_limit(int(query["power_limit_mw"]) / 1e3)
                case "/gpu/set_gpu_locked_clocks":
                    gpu.set_clock_limit(int(query["max_clock_mhz"]))
                case "/gpu/reset_gpu_locked_clocks":
                    gpu.reset_clock_limit()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body:
            self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def zeusd(node: EmulatedNode, tmp_path: Path) -> Iterator[FakeZeusd]:
    with FakeZeusd(tmp_path / "zeusd.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(node: EmulatedNode, zeusd: FakeZeusd) -> ZeusdClient:
    gpus = {gpu.uuid: gpu for gpu in open_gpus()}
    return ZeusdClient(Path(str(zeusd.server_address)), gpus, clock=lambda: float(node.now_s))


def limits(node: EmulatedNode, index: int = 0) -> tuple[int | None, float]:
    node.wait(0.1)
    truth = node.truth(index)
    return truth.clock_lock_mhz and truth.clock_lock_mhz[1], truth.power_limit_w


def test_limits_are_clamped_set_and_read_back(
    node: EmulatedNode, zeusd: FakeZeusd, client: ZeusdClient
) -> None:
    uuid = open_gpus()[node.h100].uuid
    assert client.set_clock_limit(uuid, 907) == 900
    assert client.set_power_limit(uuid, 50.0) == 200.0
    assert limits(node) == (900, 200.0)
    wanted = {"gpu_ids": "0", "min_clock_mhz": "210", "max_clock_mhz": "900", "block": "true"}
    assert zeusd.asked[0] == ("/gpu/set_gpu_locked_clocks", wanted)


def test_release_undoes_what_we_set_and_nothing_else(
    node: EmulatedNode, zeusd: FakeZeusd, client: ZeusdClient
) -> None:
    node.open().set_power_limit(500)
    uuid = open_gpus()[node.h100].uuid
    with client:
        client.set_clock_limit(uuid, 900)
        client.set_power_limit(uuid, 300.0)
        client.set_power_limit(uuid, 250.0)
    assert limits(node) == (None, 500.0)
    assert {query["gpu_ids"] for _, query in zeusd.asked} == {"0"}


def test_a_limit_that_cannot_be_undone_keeps_no_other_from_it_and_is_told(
    node: EmulatedNode, zeusd: FakeZeusd, client: ZeusdClient
) -> None:
    for uuid in (gpu.uuid for gpu in open_gpus()[:2]):
        client.set_clock_limit(uuid, 900)
        client.set_power_limit(uuid, 300.0)
    zeusd.refused = ("/gpu/reset_gpu_locked_clocks", "0")
    with pytest.raises(AgentError, match="reset_gpu_locked_clocks on GPU 0: 500 no such luck"):
        client.release()
    assert (limits(node), limits(node, node.spare)) == ((900, 700.0), (None, 700.0))
    zeusd.refused = None
    client.release()
    assert limits(node) == (None, 700.0)


def test_a_gpu_without_the_knob_is_not_asked(
    node: EmulatedNode, zeusd: FakeZeusd, client: ZeusdClient
) -> None:
    with pytest.raises(NotSupportedError):
        client.set_clock_limit(open_gpus()[node.p40].uuid, 900)
    with pytest.raises(AgentError, match="asked for GPU GPU-x"):
        client.set_clock_limit("GPU-x", 900)
    assert zeusd.asked == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, OutOfRangeError), (401, NoPermissionError), (403, NoPermissionError), (404, AgentError),
     (500, AgentError)],
)  # fmt: skip
def test_a_refusal_is_told_by_its_status(
    node: EmulatedNode, zeusd: FakeZeusd, client: ZeusdClient, status: int, kind: type[Exception]
) -> None:
    zeusd.status, zeusd.body = status, json.dumps({"errors": {"0": "no such luck"}}).encode()
    with pytest.raises(kind, match="no such luck"):
        client.set_power_limit(open_gpus()[node.h100].uuid, 300.0)


def test_a_token_is_sent_along_as_its_file_has_it_now(
    node: EmulatedNode, zeusd: FakeZeusd, tmp_path: Path
) -> None:
    gpus, token_file = {gpu.uuid: gpu for gpu in open_gpus()}, tmp_path / "token"
    client = ZeusdClient(tmp_path / "zeusd.sock", gpus, token_file)
    with pytest.raises(AgentError, match=r"token: no token: No such file"):
        client.check()
    for token in ("secret", "another"):
        token_file.write_text(f"{token}\n")
        client.check()
        client.set_power_limit(next(iter(gpus)), 300.0)
    assert zeusd.tokens == ["Bearer secret", "Bearer another"]


def test_a_clock_limit_changes_once_a_second_and_the_latest_wish_waits(
    node: EmulatedNode, zeusd: FakeZeusd, client: ZeusdClient
) -> None:
    uuid = open_gpus()[node.h100].uuid
    node.work(1.0)
    assert [client.set_clock_limit(uuid, clock) for clock in (900, 600, 705)] == [900, 600, 705]
    node.wait(0.5)
    assert client.confirmed_mhz() == {uuid: 900}
    node.wait(0.5)
    client.confirmed_mhz()
    node.wait(0.2)
    assert client.confirmed_mhz() == {uuid: 705}
    assert [query["max_clock_mhz"] for _, query in zeusd.asked] == ["900", "705"]


def test_a_clock_limit_that_somebody_lifts_is_confirmed_only_when_it_is_set_again(
    node: EmulatedNode, zeusd: FakeZeusd, client: ZeusdClient
) -> None:
    uuid = open_gpus()[node.h100].uuid
    client.set_clock_limit(uuid, 900)
    node.work(1.0)
    node.open().reset_clock_limit()
    node.wait(0.5)
    assert client.confirmed_mhz() == {}
    node.wait(0.5)
    assert client.confirmed_mhz() == {uuid: 900}
    assert len(zeusd.asked) == 2


def test_a_refused_clock_limit_is_not_confirmed_and_no_other_suffers(
    node: EmulatedNode, zeusd: FakeZeusd, client: ZeusdClient
) -> None:
    h100, spare = (open_gpus()[index].uuid for index in (node.h100, node.spare))
    client.set_clock_limit(spare, 900)
    zeusd.status, zeusd.body = 403, b"no"
    with pytest.raises(NoPermissionError):
        client.set_clock_limit(h100, 900)
    node.wait(1.0)
    assert client.confirmed_mhz() == {spare: 900}
    node.emulator.set_alive(node.spare, False)
    assert client.confirmed_mhz() == {}


def test_without_a_daemon_the_client_says_where_it_looked(
    node: EmulatedNode, tmp_path: Path
) -> None:
    gpus = {gpu.uuid: gpu for gpu in open_gpus()}
    client = ZeusdClient(tmp_path / "nobody.sock", gpus)
    with pytest.raises(AgentError, match=r"nobody\.sock: zeusd does not answer"):
        client.set_clock_limit(next(iter(gpus)), 900)
    with pytest.raises(AgentError, match=r"nobody\.sock: zeusd does not answer"):
        client.check()
    with contextlib.suppress(AgentError):
        client.release()
