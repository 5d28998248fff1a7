"""Serves the page of a record to a browser of this machine."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from steppe.errors import UsageError
from steppe.page.html import POLICY

HOST = "127.0.0.1"
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class _Handler(BaseHTTPRequestHandler):
    """Answers with one of some files."""

    files: ClassVar[Mapping[str, bytes]] = {}
    server_version = "steppe"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a GET; only to a page of this address, whose name no other site can take."""
        name = self.path.partition("?")[0].removeprefix("/") or "index.html"
        body = self.files.get(name)
        host = self.headers.get("Host", "").partition(":")[0]
        if body is None or host not in (HOST, "localhost"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header(
            "Content-Type", _TYPES.get(name.rpartition(".")[2], "text/plain; charset=utf-8")
        )
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the command has a line of its own."""


def serve_page(
    files: Mapping[str, bytes],
    port: int,
    on_url: Callable[[str], None],
    open_url: Callable[[str], object] = webbrowser.open,
) -> None:
    """Serve a page on this machine and open it in a browser, until Ctrl-C.

    Args:
        files: Its files by their names.
        port: Port; 0 takes a free one.
        on_url: Gets its address.
        open_url: Opens the address in a browser.

    Raises:
        UsageError: The port is in use.
    """
    with page_server(files, port) as server:
        url = url_of(server)
        on_url(url)
        open_url(url)
        server.serve_forever()


def page_server(files: Mapping[str, bytes], port: int) -> ThreadingHTTPServer:
    """Return a server of files on this machine, which listens and does not serve yet.

    Raises:
        UsageError: The port is in use.
    """
    handler = type("PageHandler", (_Handler,), {"files": files})
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise UsageError(f"--port: cannot listen on {HOST}:{port}: {error.strerror}") from error


def url_of(server: ThreadingHTTPServer) -> str:
    """Return the address of a server."""
    return f"http://{HOST}:{server.server_port}/"
