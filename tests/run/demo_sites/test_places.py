from __future__ import annotations

import time
from pathlib import Path

import pytest

from steppe.config import TraceSupply, load_config, shipped_config
from steppe.run.demo_sites.places import ANYWHERE, NEAREST, Places, lay_out, write_files
from steppe.run.demo_sites.section import read_east_west


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """The shipped sites, laid out in a new folder."""
    source = shipped_config("east_west")
    found = lay_out(source, *read_east_west(source), tmp_path / "run")
    write_files(found, time.time())
    return found


def test_each_site_gets_a_valid_file_with_the_others_behind_a_delay(places: Places) -> None:
    for name, place in places.sites.items():
        config = load_config(place.run_file)
        assert config.sites is not None
        assert config.sites.name == name
        others = {peer.name: peer for peer in config.sites.peers}
        assert set(others) == set(places.sites) - {name}
        for other, peer in others.items():
            route = places.routes[name, other]
            assert peer.url == f"https://127.0.0.1:{route.port}"
            assert route.to_port == places.sites[other].sites_port
            assert peer.rtt_s == route.rtt_s > 0.02
            assert peer.region == places.section.sites[other].region
        for path in (config.sites.certificate, config.sites.token_key, config.sites.authority):
            assert path.is_file()


def test_one_tenant_may_go_to_every_region_and_the_other_stays(places: Places) -> None:
    regions = {each.region for each in places.section.sites.values()}
    assert len(regions) == len(places.sites), "a tenant without regions stays at its site"
    for place in places.sites.values():
        tenants = {each.name: each for each in load_config(place.run_file).tenants.list}
        assert tenants[NEAREST].regions is None
        assert set(tenants[ANYWHERE].regions or ()) == regions


def test_the_weather_of_a_run_is_a_trace_that_is_there(places: Places) -> None:
    for place in places.sites.values():
        supply = load_config(place.run_file).power.supply
        files = [each.path for each in supply if isinstance(each, TraceSupply)]
        assert files == [plant.file for plant in place.plants]
        assert all(file.is_file() for file in files)


def test_no_port_is_given_twice(places: Places) -> None:
    ports = [route.port for route in places.routes.values()]
    ports += [each.gateway_port for each in places.sites.values()]
    ports += [each.sites_port for each in places.sites.values()]
    assert len(set(ports)) == len(ports) == 12
