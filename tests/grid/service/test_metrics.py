"""The metrics of the grid service."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from steppe.config.site_meter import SiteMeterSection
from steppe.grid.limits.limit import Link
from steppe.grid.meters.part import SiteMeterPart
from steppe.grid.meters.site_meter import MeteredDraw, SiteMeter
from steppe.grid.service.metrics import GridMetrics
from steppe.grid.service.refusals import Refusals

LINKS = (Link("http", 100.0, 10.0), Link("openadr", 100.0, 10.0))


class Meter:
    """A signal that is never read here."""

    def at(self, _time_s: float) -> None: ...


def samples(text: bytes) -> dict[tuple[str, str], float]:
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_refusals_are_counted_by_link_and_shown_from_the_start() -> None:
    refusals = Refusals(lambda: 0.0)
    metrics = GridMetrics(LINKS, refusals, (), lambda: False)
    assert samples(metrics.exposition())["steppe_grid_refused_total", "openadr"] == 0.0
    refusals.note("http", "too old")
    refusals.note("http", "too old")
    found = samples(metrics.exposition())
    assert found["steppe_grid_refused_total", "http"] == 2.0
    assert found["steppe_grid_controller_away", ""] == 0.0
    assert not any(name.startswith("steppe_grid_site_meter") for name, _ in found)


def test_a_controller_that_is_away_is_shown() -> None:
    metrics = GridMetrics(LINKS, Refusals(lambda: 0.0), (), lambda: True)
    assert samples(metrics.exposition())["steppe_grid_controller_away", ""] == 1.0


def test_the_meter_of_the_site_is_shown_beside_the_computed_draw() -> None:
    section = SiteMeterSection(signal=f"{__name__}:Meter", settings={})
    part = SiteMeterPart(SiteMeter(section))
    metrics = GridMetrics(LINKS, Refusals(lambda: 0.0), (part,), lambda: False)
    part.latest = MeteredDraw(1000.0, 2.0, 950.0)
    found = samples(metrics.exposition())
    assert found["steppe_grid_site_meter_watts", "metered"] == 1000.0
    assert found["steppe_grid_site_meter_watts", "computed"] == 950.0
    assert found["steppe_grid_site_meter_age_seconds", ""] == 2.0
    part.latest = MeteredDraw(None, None, 950.0, "no connection")
    found = samples(metrics.exposition())
    assert ("steppe_grid_site_meter_watts", "metered") not in found
    assert ("steppe_grid_site_meter_age_seconds", "") not in found
