"""One exposition for several gateways: the same metrics, each with a label `gateway`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import Metric, generate_latest
from prometheus_client.samples import Sample

LABEL = "gateway"


@dataclass(frozen=True, slots=True)
class _Families:
    """What `generate_latest` takes for a registry."""

    metrics: tuple[Metric, ...]

    def collect(self) -> Iterator[Metric]:
        return iter(self.metrics)


def exposition(metrics: Iterable[Metric]) -> bytes:
    """Return metrics in Prometheus' text format."""
    return generate_latest(_Families(tuple(metrics)))


def of_all(gateways: Mapping[str, Iterable[Metric] | None]) -> bytes:
    """Return the metrics of several gateways in Prometheus' text format.

    A counter that restarts with its gateway is a series of its own, so rates stay right.

    Args:
        gateways: The metrics of each, by its name; None for one that does not answer.
    """
    up = Metric("steppe_gateway_up", "1 if this gateway answers the one that was asked.", "gauge")
    found: dict[str, Metric] = {}
    for gateway, metrics in gateways.items():
        up.add_sample(up.name, {LABEL: gateway}, metrics is not None)
        for metric in metrics or ():
            kept = found.setdefault(
                metric.name, Metric(metric.name, metric.documentation, metric.type, metric.unit)
            )
            kept.samples += [_labelled(sample, gateway) for sample in metric.samples]
    return exposition([up, *found.values()])


def _labelled(sample: Sample, gateway: str) -> Sample:
    return sample._replace(labels={**sample.labels, LABEL: gateway})
