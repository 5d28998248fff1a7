"""Debian's Prometheus scrapes what Steppe's registries publish, and answers every panel."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("promql_parser", reason="pip install promql-parser (extra `deploy`)")

from deploy.check.observability import whole_exposition
from deploy.check.on_prometheus import Asked, ask_all, names_of, scraping, silent_panels

NEEDS_PROMETHEUS = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="apt-get install prometheus"
)
POWER = frozenset({"steppe_power_watts"})


@contextmanager
def served(exposition: str) -> Iterator[str]:
    """Serve an exposition, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(exposition.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join()


def test_a_panel_that_returns_nothing_though_its_metrics_have_samples_is_silent() -> None:
    asked = [
        Asked("a", "q", "", 0, POWER),
        Asked("a", "q", "", 1, POWER),
        Asked("b", "q", "", 0, POWER),
        Asked("c", "q", "", 0, POWER | {"steppe_absent"}),
    ]
    assert silent_panels(asked, POWER) == ["b"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@NEEDS_PROMETHEUS
@pytest.mark.parametrize("source", ["counter", "emulated"])
def test_every_panel_returns_series(source: str, tmp_path: Path) -> None:
    exposition = whole_exposition().replace('source="counter"', f'source="{source}"')
    with served(exposition) as url, scraping(url, tmp_path) as prometheus:
        asked = ask_all(prometheus)
        rules = prometheus.rules()
    assert silent_panels(asked, names_of(exposition)) == []
    marked = {each.panel for each in asked if each.series and each.legend.endswith("(emulated)")}
    assert bool(marked) is (source == "emulated")
    assert len(rules) > 20
    assert {rule["health"] for rule in rules} == {"ok"}
