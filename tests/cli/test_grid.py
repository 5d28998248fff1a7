"""`steppe grid`: what it shows of a run, and what it asks for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from steppe.cli import main

BUDGET: dict[str, Any] = {
    "object": "steppe.budget",
    "in_force": {"name": "http/limit", "limit_w": 700.0},
}
GRID: dict[str, Any] = {
    "site": "s7",
    "away": "",
    "in_force": None,
    "budget_w": 900.0,
    "budget_source": "supply",
    "draw_w": None,
    "links": [
        {"name": "http", "lost": None, "default_w": None, "problem": ""},
        {"name": "openadr", "lost": True, "default_w": 400.0, "problem": "no answer"},
    ],
    "events": [
        {
            "id": "e1",
            "link": "http",
            "target_w": 630.0,
            "baseline_w": 900.0,
            "verdict": {"complies": False, "reason": "asked for 270 W less, found 100 W"},
        }
    ],
    "refused": [{"link": "dsx", "reason": "data: a bad signature", "times": 2}],
}


class Gateway:
    """A gateway that answers what it was given.

    Attributes:
        url: Where it listens.
        asked: Method, path and body of each call.
    """

    def __init__(self) -> None:
        asked: list[tuple[str, str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append((self.command, self.path, json.loads(body) if body else None))
                found = json.dumps(GRID if self.path.endswith("grid") else BUDGET).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def do_GET(self) -> None:
                self._answer()

            def do_PUT(self) -> None:
                self._answer()

            def do_DELETE(self) -> None:
                self._answer()

            def log_message(self, *_: Any) -> None:
                pass

        self.asked = asked
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    found = Gateway()
    yield found
    found.stop()


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["grid", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_status_names_links_events_and_refusals(gateway: Gateway) -> None:
    assert run("status", gateway.url).splitlines() == [
        "site s7: draw –, budget 900 W (supply)",
        "no limit of the grid is in force",
        "link http: cannot be lost, no default",
        "link openadr: LOST, default 400 W: no answer",
        "event e1 over http: 630 W, baseline 900 W, CANNOT COMPLY: "
        "asked for 270 W less, found 100 W",
        "refused over dsx: data: a bad signature (2 times)",
    ]
    assert json.loads(run("status", gateway.url, "--json")) == GRID


def test_a_limit_is_set_and_lifted(gateway: Gateway) -> None:
    end = "2027-01-31T18:00:00Z"
    said = run("limit", "700", "--expires", end, "--url", gateway.url)
    assert said == "in force: http/limit, 700 W\n"
    run("limit", "--lift", "--name", "a b", "--url", gateway.url)
    assert gateway.asked == [
        ("PUT", "/steppe/v1/budget", {"limit_w": 700.0, "name": "limit", "expires": end}),
        ("DELETE", "/steppe/v1/budget?name=a%20b", None),
    ]


@pytest.mark.parametrize("given", [(), ("700", "--lift")])
def test_one_of_watts_and_lift_is_asked_for(given: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["grid", "limit", *given])
    assert result.exit_code == 2
    assert "asked for WATTS or --lift, found" in result.output
