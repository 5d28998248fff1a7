from __future__ import annotations

import socket
import threading

import pytest

from steppe.energy.window import EnergyReading, Quality
from steppe.errors import UsageError
from steppe.measure.endpoint_meter import EndpointMeter


class FakeServer:
    """Publishes joules that rise with each look."""

    def __init__(self, label: str) -> None:
        self.label, self.joules, self.urls = label, 50.0, []  # type: ignore[var-annotated]

    def fetch(self, url: str) -> str:
        self.urls.append(url)
        text = (
            "# TYPE steppe_energy_joules_total counter\n"
            f'steppe_energy_joules_total{{source="{self.label}"}} {self.joules}\n'
            "steppe_energy_joules_created 1.0\n"
        )
        self.joules += 20.0
        return text


def test_energy_counts_from_the_first_reading_and_has_its_source() -> None:
    server = FakeServer("emulated")
    meter = EndpointMeter("http://x:1/v1/", server.fetch, lambda: 0.0)
    assert meter.read_at(10.0) == EnergyReading(10.0, 20.0, 4.0, Quality("emulated"))
    assert meter.read_at(20.0).energy_j == 40.0
    assert set(server.urls) == {"http://x:1/metrics"}
    assert meter.source == "emulated"


def test_a_real_counter_is_called_measured() -> None:
    meter = EndpointMeter("http://x:1", FakeServer("counter").fetch, lambda: 0.0)
    assert (meter.source, meter.read_at(5.0).quality) == ("measured", "counter")


def test_the_boundary_is_the_one_that_the_server_names() -> None:
    server = FakeServer("counter")
    assert EndpointMeter("http://x:1", server.fetch, lambda: 0.0).boundary == "gpu"

    def fetch(url: str) -> str:
        return server.fetch(url) + 'steppe_energy_boundary_info{boundary="node"} 1.0\n'

    assert EndpointMeter("http://x:1", fetch, lambda: 0.0).boundary == "node"


def test_a_server_without_joules_is_refused() -> None:
    with pytest.raises(UsageError, match="found no such metric"):
        EndpointMeter("http://x:1", lambda _: "up 1\n")


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9/metrics"):
        EndpointMeter("http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["http://localhost:abc", "http://local host"])
def test_an_invalid_address_is_named(url: str) -> None:
    with pytest.raises(UsageError, match=f"^{url}/metrics: asked for metrics, found: "):
        EndpointMeter(url)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_a_server_without_http_is_named(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=_answer_once, args=(server, answer))
        thread.start()
        with pytest.raises(UsageError, match=f"^{url}/metrics: asked for metrics, found: "):
            EndpointMeter(url)
        thread.join()


def _answer_once(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(answer)


@pytest.mark.parametrize("label", ["integrated", "estimated", "counter"])
def test_the_quality_of_the_joules_comes_from_the_server(label: str) -> None:
    meter = EndpointMeter("http://x:1", FakeServer(label).fetch, lambda: 0.0)
    assert (meter.source, meter.read_at(5.0).quality) == ("measured", label)


@pytest.mark.parametrize(("label", "quality"), [("counter", "estimated"), ("emulated", "emulated")])
def test_a_restarted_counter_counts_from_zero_as_an_estimate(label: str, quality: str) -> None:
    server = FakeServer(label)
    meter = EndpointMeter("http://x:1", server.fetch, lambda: 0.0)
    assert meter.read_at(10.0) == EnergyReading(10.0, 20.0, 4.0, Quality(label))
    server.joules = 5.0
    assert meter.read_at(20.0) == EnergyReading(20.0, 25.0, 1.0 + 20.0, Quality(quality))
    assert meter.read_at(30.0) == EnergyReading(30.0, 45.0, 4.0, Quality(label))


def test_each_counter_of_a_server_restarts_by_itself() -> None:
    texts = iter(
        "".join(f'steppe_energy_joules_total{{gpu="{gpu}"}} {j}\n' for gpu, j in counters.items())
        for counters in ({"a": 100, "b": 7}, {"a": 150, "b": 2}, {"a": 160, "c": 3})
    )
    meter = EndpointMeter("http://x:1", lambda _: next(texts), lambda: 0.0)
    found = [meter.read_at(at_s) for at_s in (10.0, 20.0)]
    assert [reading.energy_j for reading in found] == [52.0, 65.0]
    assert [reading.quality for reading in found] == ["estimated", "estimated"]
