"""The metrics of the grid service."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from tests.grid.service.conftest import SiteFactory

from steppe.config import GridSection
from steppe.config.site_meter import SiteMeterSection
from steppe.grid.limits.limit import Link
from steppe.grid.meters.part import SiteMeterPart
from steppe.grid.meters.site_meter import MeteredDraw, SiteMeter
from steppe.grid.service.metrics import GridMetrics
from steppe.grid.service.refusals import Refusals
from steppe.power.signal import Fresh, Reading

LINKS = (Link("http", 100.0, 10.0), Link("openadr", 100.0, 10.0))


class Meter:
    """A signal that is never read here."""

    def at(self, _time_s: float) -> None: ...


class Reads:
    """A signal that gives the watts of its settings."""

    def __init__(self, watts: float) -> None:
        self._watts = watts

    def at(self, _time_s: float) -> Reading:
        return Fresh(self._watts)


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


async def test_a_service_shows_its_meter_and_its_refusals(open_site: SiteFactory) -> None:
    meter = SiteMeterSection(signal=f"{__name__}:Reads", settings={"watts": 480.0})
    site = await open_site(GridSection(site_meter=meter))
    await site.look()
    shown = (await site.grid())["parts"]["site_meter"]
    computed_w = (await site.grid())["draw_w"]
    assert (shown["watts"], shown["computed_w"]) == (480.0, computed_w)
    await site.ask("PUT", "/steppe/v1/budget", {"limit_w": 500.0})
    status, _ = await site.ask("PUT", "/steppe/v1/budget", {"limit_w": 900.0, "issued": 1.0})
    assert status == 409, "an older version"
    async with site.session.get(f"{site.url}/metrics") as answer:
        found = samples(await answer.read())
    assert found["steppe_grid_site_meter_watts", "metered"] == 480.0
    assert found["steppe_grid_refused_total", "http"] == 1.0
