"""What a node draws beside its GPUs: a Prometheus server over HTTP, RAPL in files."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.device.test_rapl import make_zone, opened

from steppe.config import NodeMeterSection, SiteSection
from steppe.device.prometheus import ask_prometheus
from steppe.energy.window import EnergyWindow, Quality
from steppe.errors import DeviceError, TransientDeviceError
from steppe.fleet.node.boundary import Boundary
from steppe.fleet.node.rest_meter import NodeName, PrometheusRest, RaplRest, RestMeter

NAME = NodeName("node-7", "10.0.0.7")


class Prometheus(HTTPServer):
    """Answers every query with one text, and keeps the queries."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.queries: list[str] = []
        self.body, self.status = "", 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def answer(self, kind: str, result: Any) -> None:
        data = {"resultType": kind, "result": result}
        self.body = json.dumps({"status": "success", "data": data})


class _Answer(BaseHTTPRequestHandler):
    server: Prometheus

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        self.server.queries.append(parse_qs(asked.query)["query"][0])
        self.send_response(self.server.status if asked.path == "/api/v1/query" else 404)
        self.end_headers()
        self.wfile.write(self.server.body.encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with Prometheus() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@dataclass
class Gpu:
    """A meter of a GPU that draws 300 W until 100 s and 500 W from then on."""

    covered_until_s: float = 1000.0
    asked: list[tuple[float, float]] = field(default_factory=list)

    def window(self, start_s: float, end_s: float) -> EnergyWindow:
        self.asked.append((start_s, end_s))
        low_s = max(0.0, min(end_s, 100.0) - start_s)
        energy_j = 300.0 * low_s + 500.0 * (end_s - start_s - low_s)
        return EnergyWindow(start_s, end_s, energy_j, 0.0, Quality.COUNTER)


def section(prometheus_url: str, **changes: Any) -> NodeMeterSection:
    values = {"url": prometheus_url, "query": 'ipmi_dcmi_watts{instance="{node}"}'}
    return NodeMeterSection.model_validate(values | changes)


@pytest.mark.parametrize(
    ("kind", "result"),
    [("vector", [{"metric": {}, "value": [1.0, "1800.5"]}]), ("scalar", [1.0, "1800.5"])],
)
def test_one_value_of_a_query_is_read(prometheus: Prometheus, kind: str, result: Any) -> None:
    prometheus.answer(kind, result)
    assert ask_prometheus(prometheus.url, "sum(watts)") == 1800.5
    assert prometheus.queries == ["sum(watts)"]


@pytest.mark.parametrize(
    ("kind", "result", "says"),
    [
        ("vector", [], "0 values instead of one"),
        ("vector", [{"value": [1.0, "1"]}] * 2, "2 values instead of one"),
        ("vector", [{"value": [1.0, "NaN"]}], "NaN, which is no number"),
        ("matrix", [], "a matrix instead of one value"),
    ],
)
def test_an_answer_that_is_no_single_number_is_refused(
    prometheus: Prometheus, kind: str, result: Any, says: str
) -> None:
    prometheus.answer(kind, result)
    with pytest.raises(TransientDeviceError, match=says):
        ask_prometheus(prometheus.url, "watts")


@pytest.mark.parametrize(("status", "body"), [(503, ""), (200, "busy"), (200, "{}"), (200, "[]")])
def test_a_server_that_gives_no_answer_is_an_error(
    prometheus: Prometheus, status: int, body: str
) -> None:
    prometheus.status, prometheus.body = status, body
    with pytest.raises(TransientDeviceError, match="asked for watts"):
        ask_prometheus(prometheus.url, "watts")


def test_the_draw_of_the_gpus_at_the_same_time_is_deducted(prometheus: Prometheus) -> None:
    prometheus.answer("vector", [{"value": [1.0, "1800"]}])
    gpu = Gpu()
    reader = PrometheusRest(section(prometheus.url, delay_s=10.0), NAME, {"GPU-1": gpu})
    assert reader.read_w(100.0) == 1500.0
    assert reader.read_w(110.0) == 1400.0
    assert gpu.asked == [(80.0, 100.0), (90.0, 110.0)]
    assert prometheus.queries == ['ipmi_dcmi_watts{instance="node-7"}'] * 2


def test_a_meter_beside_the_gpus_is_taken_as_it_is(prometheus: Prometheus) -> None:
    prometheus.answer("vector", [{"value": [1.0, "900"]}])
    values = section(prometheus.url, measures="rest", query='cpu{host="{address}"}')
    assert PrometheusRest(values, NAME, {"GPU-1": Gpu()}).read_w(100.0) == 900.0
    assert prometheus.queries == ['cpu{host="10.0.0.7"}']


def test_a_meter_that_fails_leaves_the_stated_figure_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    values, now_s, watts = section("http://p", stale_s=30.0, error=0.1), [0.0], [900.0]
    site = SiteSection(node_rest_w=1500.0, node_meter=values)

    def ask(url: str, query: str) -> float:
        if not watts:
            raise TransientDeviceError("no answer")
        return watts[0]

    rest = values.model_copy(update={"measures": "rest"})
    meter = RestMeter(site, PrometheusRest(rest, NAME, {}, ask), lambda: now_s[0])
    meter.read()
    assert meter.now().rest_w == 900.0
    assert meter.now().most_w == pytest.approx(990.0)
    with caplog.at_level(logging.WARNING):
        watts.clear()
        for now_s[0] in (10.0, 20.0, 29.0):
            meter.read()
            assert meter.now().source == "measured"
        now_s[0] = 31.0
        meter.read()
        assert (meter.now().most_w, meter.now().source) == (1500.0, "stale")
        watts.append(700.0)
        meter.read()
    assert (meter.now().rest_w, meter.now().source) == (700.0, "measured")
    assert len(caplog.records) == 2


def test_processors_are_measured_beside_the_stated_figure(tmp_path: Path) -> None:
    now_s = [0.0]
    make_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    reader = RaplRest(opened(tmp_path), lambda: now_s[0])
    meter = RestMeter(SiteSection(node_rest_w=800.0, rapl=True), reader, lambda: now_s[0])
    now_s[0] = 2.0
    make_zone(tmp_path, "intel-rapl:0", "package-0", 600_000_000)
    meter.read()
    assert (meter.now().rest_w, meter.now().source) == (1100.0, "measured")
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(DeviceError):
        reader.read_w(3.0)
    now_s[0] = 200.0
    meter.read()
    assert (meter.now().rest_w, meter.now().source) == (1100.0, "stale")


@pytest.mark.parametrize(
    ("boundary", "energy_j", "quality"),
    [
        ("gpu", 0.0, Quality.COUNTER),
        ("node", 0.5 * 2000.0, Quality.ESTIMATED),
        ("site", 0.5 * 2000.0 + 0.2 * (800.0 + 1000.0) + 0.5 * 100.0 * 2, Quality.ESTIMATED),
    ],
)
def test_a_replica_is_charged_its_share_of_what_the_boundary_encloses(
    boundary: str, energy_j: float, quality: Quality
) -> None:
    site = SiteSection.model_validate({"boundary": boundary, "node_rest_w": 1000.0, "pue": 1.2})
    rest = RestMeter(site, None).history
    gpus = EnergyWindow(5.0, 7.0, 800.0, 1.0, Quality.COUNTER)
    beside = Boundary(site, rest, overhead_w=100.0).beside(gpus, 0.5)
    assert beside.energy_j == pytest.approx(energy_j)
    assert beside.quality is quality
