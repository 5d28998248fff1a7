"""`steppe grid offer` and its neighbours, on the folder of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from click.testing import CliRunner, Result

from steppe.cli import main
from steppe.grid.history.history import History
from steppe.grid.history.reading import reading_of
from steppe.grid.offers.commitments import Commitment
from steppe.grid.offers.history import Moment
from steppe.grid.offers.offer import Call, FlexOffer, offered
from steppe.grid.offers.sources import Source
from steppe.grid.service.offers.kept_history import KeptHistory
from steppe.grid.service.offers.promises import FolderPromises

HOUR_S = 3600.0
SOURCE = Source("work that can wait", 500.0, 1.0, 500.0, 0.0)


def note_history(folder: Path, hours: int) -> None:
    history = KeptHistory(folder, 1e9)
    for number in range(hours * 6 + 1):
        history.add(Moment(number * 600.0, (SOURCE,)))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["grid", *arguments])


def test_a_run_offers_what_its_history_says(tmp_path: Path) -> None:
    note_history(tmp_path / "grid", 48)
    result = run("offer", str(tmp_path), "--hold", "1800")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "from a history of 48.0 h"
    assert lines[1] == (
        "1970-01-03 01:00 to 02:00Z down: 500 W in 90%, 500 W free, with 60 s of notice, "
        "at 500 W/s, for 1800 s, at 0.00/MWh"
    )
    assert lines[2].endswith("up: 0 W: not in 90% of the futures; now it is 0 W")


def test_what_is_promised_is_not_free(tmp_path: Path) -> None:
    note_history(tmp_path / "grid", 48)
    power = offered([[SOURCE]] * 9, Call(60.0, 1800.0))
    from_s = 49 * 3600
    offer = FlexOffer("o", from_s, from_s + 3600, power, power)
    new = Commitment("c1", "reserve", from_s, from_s + 3600, down_w=400)
    FolderPromises(tmp_path / "grid").commit(new, offer, 1)
    found = json.loads(run("offer", str(tmp_path), "--json").stdout)
    assert [each["down"]["free_w"] for each in found["offers"][:2]] == [100, 500]
    shown = run("commitments", str(tmp_path)).stdout
    assert shown == "c1: 400 W less for reserve, 1970-01-03 01:00 to 02:00Z\n"


def test_a_folder_without_a_history_is_named(tmp_path: Path) -> None:
    result = run("offer", str(tmp_path))
    assert result.exit_code == 2
    assert "asked for a history (sources.jsonl), found none" in result.output
    assert run("offer", str(tmp_path / "none")).exit_code == 2
    assert run("commitments", str(tmp_path)).stdout == "nothing is promised\n"


def test_a_commitment_needs_a_gateway_that_answers() -> None:
    result = run(
        *("commit", "c1", "reserve", "2027-01-31T18:00Z", "2027-01-31T20:00Z"),
        *("--down", "400", "--url", "http://127.0.0.1:9"),
    )
    assert result.exit_code == 2
    assert "127.0.0.1:9" in result.output


def test_what_is_free_is_written_in_the_languages_of_the_grid(tmp_path: Path) -> None:
    note_history(tmp_path / "grid", 48)
    power = offered([[SOURCE]] * 9, Call(60.0, 1800.0))
    from_s = 49 * 3600
    offer = FlexOffer("o", from_s, from_s + 3600, power, power)
    new = Commitment("c1", "reserve", from_s, from_s + 3600, down_w=400)
    FolderPromises(tmp_path / "grid").commit(new, offer, 1)

    def written(language: str, *more: str) -> Any:
        asked = ("offer", str(tmp_path), "--hold", "1800", "--as", language, *more)
        result = run(*asked)
        assert result.exit_code == 0, result.output
        return result.stdout if language == "uftp" else json.loads(result.stdout)

    steps = written("steps", "--lot", "50")
    assert [each["watts"] for each in steps[:2]] == [100, 500]
    shed = written("openadr")[0]["resources"][0]["intervals"]
    assert [each["payloads"][0]["values"][0] for each in shed[:3]] == [0.0, 0.1, 0.5]
    feed = written("dsx", "--draw", "900")["feeds"]["site"]["metadata"]
    assert (feed["power_minimum"]["value"], feed["power_maximum"]["value"]) == (800, 900)
    constraints, modes = written("s2", "--draw", "900")
    assert constraints["message_type"] == "PEBC.PowerConstraints"
    assert modes["message_type"] == "OMBC.SystemDescription"
    domains = ("--sender", "agr.example.org", "--recipient", "dso.example.org")
    point = ("--congestion-point", "ean.871685900012636543", "--currency", "EUR")
    lines = written("uftp", *domains, *point).splitlines()
    powers = [ElementTree.fromstring(line)[0][0].get("Power") for line in lines]
    assert powers == ["-100", *["-500"] * 23]


def test_what_a_language_needs_and_is_not_known_is_named(tmp_path: Path) -> None:
    note_history(tmp_path / "grid", 48)
    result = run("offer", str(tmp_path), "--as", "uftp")
    assert result.exit_code == 2
    assert "UFTP: asked for --sender, --recipient" in result.output
    result = run("offer", str(tmp_path), "--as", "dsx")
    assert result.exit_code == 2
    assert "asked for what the site draws, found nothing: state --draw" in result.output


def test_the_last_draw_of_a_run_stands_for_the_draw_without_a_call(tmp_path: Path) -> None:
    note_history(tmp_path / "grid", 48)
    History(tmp_path / "grid" / "draw").take([reading_of(1, 3600.0, 700.0, 1.0, "modelled")])
    result = run("offer", str(tmp_path), "--as", "dsx")
    assert json.loads(result.stdout)["feeds"]["site"]["calculated_load"]["value"] == 700
