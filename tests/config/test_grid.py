"""The section of the grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steppe.config import GridSection, load_config, shipped_config
from steppe.errors import ConfigError
from steppe.run.grid_place import check_grid, with_grid_folder

DEMO = shipped_config("demo.yaml")
OPENADR = """
  openadr:
    url: https://vtn.example.org/openadr3/3.1.0
    client_id: site-7
    secret_file: vtn.secret
    default_w: 400
    most_w: 2000
"""
DSX = """
  dsx:
    agent: site-7
    broker: {host: mqtt.example.org, ca_file: ca.pem, password_file: mqtt.password}
    kid: site-7-1
    private_key_file: site.pem
    isvs: [{id: grid-1, kid: grid-1-1, public_key_file: grid.pem}]
    feeds:
    - {tag: A, share: 0.5, maximum_w: 600, default_w: 200}
    - {tag: B, share: 0.5, maximum_w: 600, default_w: 200}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(DEMO.read_text() + text)
    return path


def section(**values: Any) -> GridSection:
    return GridSection.model_validate(values)


def test_a_run_without_the_section_has_no_grid() -> None:
    assert load_config(DEMO).grid is None


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    grid = load_config(written(tmp_path, f"\ngrid:\n  folder: kept{OPENADR}{DSX[1:]}")).grid
    assert grid is not None
    assert grid.openadr is not None
    assert grid.dsx is not None
    assert grid.folder == tmp_path / "kept"
    assert grid.openadr.secret_file == tmp_path / "vtn.secret"
    assert grid.dsx.broker.ca_file == tmp_path / "ca.pem"
    assert grid.dsx.isvs[0].public_key_file == tmp_path / "grid.pem"


def test_the_folder_is_in_the_record_if_none_is_named(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "\ngrid: {site: s7}\n"))
    grid = with_grid_folder(config, tmp_path).grid
    assert grid is not None
    assert grid.folder == tmp_path / "grid"


def test_a_grid_without_a_place_for_its_limits_is_refused(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "\ngrid: {site: s7}\n"))
    with pytest.raises(ConfigError, match=r"grid\.folder: asked for a folder, or for a record"):
        with_grid_folder(config, None)


def test_a_missing_file_of_a_link_is_named(tmp_path: Path) -> None:
    grid = load_config(written(tmp_path, f"\ngrid:{OPENADR}")).grid
    assert grid is not None
    with pytest.raises(ConfigError, match=r"grid\.openadr\.secret_file: asked for a file"):
        check_grid(grid)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http: {lost_s: 60}", "asked for default_w"),
        ("drills: [{after_s: 1, hold_s: 5}]", "asked for share or watts, found neither"),
        ("drills: [{after_s: 1, hold_s: 5, share: 0.5, watts: 1}]", "found both"),
        ("site: a b", "asked for at most 64"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, f"\ngrid:\n  {text}\n"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("default_w: 400", "default_w: 4000", "asked for at most most_w"),
        ("share: 0.5, maximum_w: 600", "share: 0.25, maximum_w: 600", "add up to 1, found 0.5"),
        ("tag: B", "tag: A", "asked for different tags"),
        ("default_w: 200", "default_w: 700", "asked for minimum_w <= default_w <= maximum_w"),
        ("default_w: 400", "default_w: 400\n    poll_s: 300", "asked for less than lost_s"),
    ],
)
def test_figures_of_a_link_fit_together(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = f"\ngrid:{OPENADR}{DSX[1:]}".replace(old, new)
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text))


def test_the_example_is_valid_with_its_links_too(tmp_path: Path) -> None:
    example = shipped_config("grid.yaml")
    found = load_config(example).grid
    assert found is not None
    assert [drill.share for drill in found.drills] == [0.7]
    lines = example.read_text().split("  # openadr:", maxsplit=1)
    links = "  # openadr:" + lines[1]
    path = tmp_path / "run.yaml"
    path.write_text(lines[0] + links.replace("  # ", "  "))
    grid = load_config(path).grid
    assert grid is not None
    assert grid.openadr is not None
    assert grid.openadr.default_w == 800
    assert grid.dsx is not None
    assert [feed.tag for feed in grid.dsx.feeds] == ["A", "B"]
