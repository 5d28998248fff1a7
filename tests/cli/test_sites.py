"""`steppe sites`: a folder of certificates, and their renewal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner, Result
from tests.fixtures.beating_sites import view_of

from steppe.cli import main
from steppe.cli.sites_list import rows_of
from steppe.sites.beats.peers import Health
from steppe.sites.state import PeerState, SitesState

SITES = ("--site", "a=https://10.0.0.1:8443", "--site", "b=https://10.0.0.2:8443")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["sites", *arguments], prog_name="steppe")


def test_a_folder_is_made_once_and_nothing_of_it_is_due(tmp_path: Path) -> None:
    folder = str(tmp_path / "sites")
    assert run("init", folder, *SITES).output == f"a: {folder}/a\nb: {folder}/b\n"
    again = run("init", folder, *SITES)
    assert (again.exit_code, "found one that is not empty" in again.output) == (2, True)
    assert run("renew", folder).output == "renewed: none was due\n"
    assert json.loads(run("renew", folder, "--json").output) == {"renewed": []}


def test_the_folders_are_named_in_json(tmp_path: Path) -> None:
    found = json.loads(run("init", str(tmp_path / "x"), *SITES, "--json").output)
    assert found == {"sites": {name: str(tmp_path / "x" / name) for name in ("a", "b")}}


def test_one_site_is_not_enough(tmp_path: Path) -> None:
    result = run("init", str(tmp_path / "x"), *SITES[:2])
    assert result.exit_code == 2
    assert "asked for two sites or more, found 1" in result.output


def test_a_row_for_each_site_shows_what_is_known_of_it() -> None:
    here = replace(view_of("hohhot"), received_s=-0.25)
    known = replace(view_of("shanghai"), received_s=-0.5)
    peers = (
        PeerState("shanghai", "https://h:1", "cn", Health.ONE_WAY, 0.0213, known),
        PeerState("guizhou", "https://h:2", "cn", Health.UNHEARD, 0.05),
    )
    state = SitesState("hohhot", "0" * 16, 1, 1.0, here, peers)
    assert rows_of(state) == [
        ("hohhot", "here", "–", "1.00 kW", "700 W", "300 W", "1200", "3", "0.2 s"),
        ("shanghai", "one way", "21.3 ms", "1.00 kW", "700 W", "300 W", "1200", "3", "0.5 s"),
        ("guizhou", "unheard", "50.0 ms", "–", "–", "–", "–", "–", "–"),
    ]
    suspect = replace(state, suspects={"shanghai": 9.0})
    assert rows_of(suspect)[1][1] == "suspect"


def test_the_list_is_asked_of_a_gateway() -> None:
    result = run("list", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "http://127.0.0.1:1" in result.output
