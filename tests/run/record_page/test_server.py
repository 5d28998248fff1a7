"""The page of a record, served to this machine."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator

import pytest

from steppe.errors import UsageError
from steppe.run.record_page.server import page_server, serve_page

FILES = {"index.html": b"<!doctype html>", "data.js": b"1;"}


@pytest.fixture
def port() -> Iterator[int]:
    with page_server(FILES, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def get(port: int, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def test_it_serves_its_files_and_nothing_else(port: int) -> None:
    status, headers, body = get(port, "/")
    assert (status, body) == (200, FILES["index.html"])
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert get(port, "/data.js")[1]["Content-Type"].startswith("text/javascript")
    for path in ("/absent.js", "/../data.js", "/etc/passwd"):
        assert get(port, path)[0] == 404


def test_another_name_for_this_machine_gets_nothing(port: int) -> None:
    assert get(port, "/", Host="evil.example")[0] == 404
    assert get(port, "/", Host=f"localhost:{port}")[0] == 200


def test_a_port_in_use_is_one_line(port: int) -> None:
    with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
        serve_page(FILES, port, print, lambda url: None)
