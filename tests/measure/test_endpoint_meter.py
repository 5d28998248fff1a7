from __future__ import annotations

import pytest

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


def test_energy_counts_from_the_first_look_and_carries_its_source() -> None:
    server = FakeServer("emulated")
    meter = EndpointMeter("http://x:1/v1/", server.fetch, lambda: 0.0)
    assert meter.read_at(10.0) == (20.0, 4.0, "emulated")
    assert meter.read_at(20.0)[0] == 40.0
    assert set(server.urls) == {"http://x:1/metrics"}
    assert meter.source == "emulated"


def test_a_real_counter_is_called_measured() -> None:
    meter = EndpointMeter("http://x:1", FakeServer("counter").fetch, lambda: 0.0)
    assert (meter.source, meter.read_at(5.0)[2]) == ("measured", "counter")


def test_a_server_without_joules_is_refused() -> None:
    with pytest.raises(UsageError, match="found no such metric"):
        EndpointMeter("http://x:1", lambda _: "up 1\n")


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9/metrics"):
        EndpointMeter("http://127.0.0.1:9")
