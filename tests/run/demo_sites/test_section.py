from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from steppe.cli import main
from steppe.config import shipped_config
from steppe.errors import ConfigError
from steppe.run.demo_sites.section import read_east_west

SITES = ("hohhot", "guizhou", "shanghai")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped folder."""
    return Path(shutil.copytree(shipped_config("east_west"), tmp_path / "east_west"))


def test_the_shipped_sites_are_valid_and_most_customers_have_little_sun() -> None:
    section, configs = read_east_west(shipped_config("east_west"))
    assert tuple(configs) == SITES
    assert section.sites["shanghai"].customers > 0.5
    assert section.rtt_between("shanghai", "hohhot") == section.rtt_between("hohhot", "shanghai")
    kinds = {name: config.engine.kind for name, config in configs.items()}
    assert kinds == {"hohhot": "vllm", "guizhou": "synthetic", "shanghai": "synthetic"}
    assert len({config.gateway.port for config in configs.values()}) == len(SITES)
    assert len({str(config.power.start) for config in configs.values()}) == 1, "one day for all"


@pytest.mark.parametrize("name", SITES)
def test_each_site_can_be_served_alone(name: str) -> None:
    path = shipped_config(f"east_west/{name}.yaml")
    result = CliRunner().invoke(main, ["config", "validate", str(path)])
    assert result.output == f"{path}: ok\n"


def test_a_pair_without_a_round_trip_is_named(folder: Path) -> None:
    path = folder / "sites.yaml"
    path.write_text(path.read_text().replace("hohhot-guizhou", "hohhot-nanjing"))
    with pytest.raises(ConfigError, match="asked for guizhou-shanghai, hohhot-guizhou"):
        read_east_west(folder)


def test_sites_with_different_models_are_refused(folder: Path) -> None:
    path = folder / "guizhou.yaml"
    path.write_text(path.read_text().replace("smollm2-135m", "tiny"))
    with pytest.raises(ConfigError, match=r"one model at all sites, found \['smollm2-135m', 'tiny"):
        read_east_west(folder)


def test_a_site_without_a_file_is_named(folder: Path) -> None:
    (folder / "shanghai.yaml").unlink()
    with pytest.raises(ConfigError, match=r"shanghai\.yaml"):
        read_east_west(folder)
