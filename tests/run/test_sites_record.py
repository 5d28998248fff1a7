"""`steppe simulate` of several sites: a record of each, one of all, the same bytes each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from steppe.cli import main
from steppe.config import shipped_config
from steppe.run.sites_record import simulate_sites

EACH: dict[str, Any] = {
    "model": {"name": "m"},
    "engine": {"kind": "synthetic", "max_batch_limit": 16},
    "device": {"kind": "emulated", "profile": "l4", "count": 2},
    "power": {
        "supply": [{"kind": "constant", "watts": 150.0}],
        "start": "2026-06-21T08:00:00+08:00",
        "speedup": 24,
    },
    "site": {"boundary": "site", "pue": 1.2, "node_rest_w": 10},
    "frontier": {"sweep": {"clocks": 3, "batch_limits": [4, 16]}},
    "load": {"traffic": "chats", "rate_rps": 1.0, "length_scale": 0.1},
    "sim": {"duration_s": 20.0},
}
WIND = [
    {"kind": "synthetic_wind", "rated_w": 400.0, "mean_mps": 15.0},
    {"kind": "clear_sky", "rated_w": 100.0, "latitude": 40.0, "longitude": 110.0},
    *EACH["power"]["supply"],
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of two small sites, one of them windy."""
    path = tmp_path_factory.mktemp("sites") / "sites.yaml"
    sites = [
        {"name": "calm", "region": "east", "price_per_kwh": [0.5]},
        {"name": "windy", "region": "west", "run": {"power": {"supply": WIND}}},
    ]
    rtt = [{"between": ["calm", "windy"], "rtt_s": 0.02}]
    path.write_text(
        yaml.safe_dump(
            {"each": EACH, "sites": sites, "rtt": rtt, "plan": {"period_s": 10.0, "lease_s": 20.0}}
        )
    )
    return path


def simulate(file: Path, folder: Path, *options: str) -> dict[str, Any]:
    args = ["simulate", str(file), "--record", str(folder), "--json", *options]
    result = CliRunner().invoke(main, args, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


@pytest.fixture(scope="module")
def recorded(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a run, and what the command printed."""
    folder = tmp_path_factory.mktemp("run") / "record"
    return folder, simulate(file, folder)


@pytest.mark.slow
def test_each_site_has_a_record_and_all_have_one(recorded: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = recorded
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert (folder / "figure.png").stat().st_size > 10_000
    for site in ("calm", "windy"):
        own = json.loads((folder / site / "summary.json").read_text())
        assert summary["sites"][site]["output_tokens"] == own["output_tokens"] > 0
        assert summary["sites"][site]["energy_j"] == pytest.approx(own["energy_j"], rel=0.1)
    lines = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    assert len(lines) == summary["total"]["requests"]
    assert {line["home"] for line in lines} == {"calm", "windy"}


@pytest.mark.slow
def test_the_sums_of_the_sites_are_those_of_all(recorded: tuple[Path, dict[str, Any]]) -> None:
    _, summary = recorded
    sites, total = summary["sites"].values(), summary["total"]
    for key in ("energy_j", "grid_j", "own_supply_j", "cost", "carbon_g", "requests", "served"):
        assert sum(site[key] for site in sites) == pytest.approx(total[key])
    assert summary["sites"]["calm"]["green_share"] == 0.0
    assert total["green_share"] > 0.2
    assert total["carbon_g"] == pytest.approx(total["grid_j"] / 3.6e6 * 500.0)


@pytest.mark.slow  # runs twice
def test_the_same_run_twice_gives_the_same_bytes(
    file: Path, recorded: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, _ = recorded
    simulate(file, tmp_path / "again")
    names = ["requests.jsonl", "summary.json", "calm/record.jsonl", "windy/record.jsonl"]
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_another_routing_is_an_option(file: Path) -> None:
    local = simulate_sites(file, routing="local", duration_s=10.0)
    assert local["routing"] == "local"
    assert local["total"]["moved_share"] == 0.0


def test_a_routing_for_one_site_is_refused_in_one_line(tmp_path: Path) -> None:
    one = str(shipped_config("windy_day.yaml"))
    args = ["simulate", one, "--record", str(tmp_path / "x"), "--routing", "steppe"]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 2
    assert "asked for it with several sites, found one" in result.output
