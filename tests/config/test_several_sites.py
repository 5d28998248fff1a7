"""The file of several sites: what each site runs, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from steppe.config import load_config, shipped_config
from steppe.config.several_sites import has_several_sites, load_several_sites, merged
from steppe.errors import ConfigError

EACH = {
    "model": {"name": "m"},
    "device": {"kind": "emulated"},
    "fleet": {"replicas": 2},
    "power": {"supply": [{"kind": "constant", "watts": 100.0}]},
    "frontier": {"sweep": {}},
}
SITES: list[dict[str, Any]] = [
    {"name": "a", "region": "north"},
    {"name": "b", "region": "south", "run": {"fleet": {"replicas": 3}, "load": {"rate_rps": 1.0}}},
]
RTT = [{"between": ["a", "b"], "rtt_s": 0.02}]


def written(folder: Path, **values: Any) -> Path:
    file = folder / "sites.yaml"
    file.write_text(yaml.safe_dump({"each": EACH, "sites": SITES, "rtt": RTT} | values))
    return file


def test_each_site_runs_what_all_share_with_its_own_keys(tmp_path: Path) -> None:
    _, runs = load_several_sites(written(tmp_path))
    assert {name: run.fleet.replicas for name, run in runs.items()} == {"a": 2, "b": 3}
    assert runs["b"].load.rate_rps == 1.0
    assert runs["a"].model == runs["b"].model


def test_a_site_may_have_a_configuration_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(EACH | {"model": {"name": "other"}}))
    own = [SITES[0] | {"config": "own.yaml"}, SITES[1]]
    _, runs = load_several_sites(written(tmp_path, sites=own))
    assert (runs["a"].model.name, runs["b"].model.name) == ("other", "m")


def test_mappings_are_merged_and_lists_replaced() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert merged(base, {"a": {"c": [9]}, "e": 4}) == {"a": {"b": 1, "c": [9]}, "d": 3, "e": 4}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sites": SITES[:1]}, "sites: asked for a list of at least 2"),
        ({"sites": [SITES[0], SITES[0]]}, "asked for each site once, found a twice"),
        ({"rtt": [{"between": ["a", "x"], "rtt_s": 0.1}]}, "asked for sites of a, b, found x"),
        ({"routing": "fastest"}, "routing: asked for 'local'"),
        ({"each": EACH | {"fleat": {}}}, "site a: fleat"),
        ({"sites": [SITES[0] | {"gco2_per_kwh": [1, 2]}, SITES[1]]}, "asked for 1 or 24 numbers"),
        (
            {"faults": [{"kind": "site_down", "site": "c", "from_s": 1, "to_s": 2}]},
            "asked for sites of a, b, found c",
        ),
        (
            {"tenants": [{"name": "t", "share": 0.7}, {"name": "u", "share": 0.7}]},
            "asked for shares of at most 1 together",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_several_sites(written(tmp_path, **values))
    assert "\n" not in str(caught.value)


def test_a_file_of_several_sites_is_told_from_that_of_one_run(tmp_path: Path) -> None:
    several, one = written(tmp_path), shipped_config("demo.yaml")
    assert (has_several_sites(several), has_several_sites(one)) == (True, False)
    with pytest.raises(ConfigError, match="asked for one run, found a list of sites"):
        load_config(several)
    with pytest.raises(ConfigError, match="asked for a list of sites, found one run"):
        load_several_sites(one)


def test_the_shipped_sites_are_valid() -> None:
    config, runs = load_several_sites(shipped_config("east_west.yaml"))
    assert list(runs) == ["hohhot", "guizhou", "shanghai"]
    assert len(config.rtt) == 3
    assert all(trip.rtt_s < 0.05 for trip in config.rtt)
