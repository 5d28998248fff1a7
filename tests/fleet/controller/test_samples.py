"""Metrics with a sample for each replica."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from steppe.fleet.controller.samples import Samples

NAMES = ("replica-1", 'a "quoted"\\name\nin two lines', "é")
VALUES = (0.0, 1.98e9, 0.1 + 0.2)


def test_a_gauge_is_written_as_prometheus_client_writes_it() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("steppe_power_watts", "Mean draw", ["replica", "source"], registry=registry)
    for name, value in zip(NAMES, VALUES, strict=True):
        gauge.labels(name, "counter").set(value)
    made = Samples("steppe_power_watts", "Mean draw", "gauge", "replica", "source")
    samples = [((name, "counter"), value) for name, value in zip(NAMES, VALUES, strict=True)]
    for _ in range(2):  # the second time from what is kept
        assert made.text(samples) == generate_latest(registry).decode()


def test_a_counter_is_written_as_prometheus_client_writes_it() -> None:
    registry = CollectorRegistry()
    counter = Counter("steppe_energy_joules", "Energy", ["kind", "replica"], registry=registry)
    counter.labels("idle", "replica-1").inc(2.5)
    made = Samples("steppe_energy_joules_total", "Energy", "counter", "kind", "replica")
    text = generate_latest(registry).decode()
    written = "".join(line for line in text.splitlines(keepends=True) if "_created" not in line)
    assert made.text([(("idle", "replica-1"), 2.5)]) == written
