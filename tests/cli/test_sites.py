"""`steppe sites`: a folder of certificates, and their renewal."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from steppe.cli import main

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
