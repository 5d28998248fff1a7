"""`steppe bench sweep` against a server, with an emulated GPU."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest
import yaml
from click.testing import CliRunner

from steppe.cli import main
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.energy.meter import EnergyTotal
from steppe.measure.sweep.point import MeasurePlan
from steppe.run import host_meter, sweep_rigs
from steppe.run.sweep import duration_line, in_words


def test_the_estimated_duration_counts_points_replicas_windows_and_waits() -> None:
    plan = MeasurePlan(windows=5, window_s=10.0, warm_up_s=2.0, longest_settle_s=15.0)
    assert (plan.shortest_point_s, plan.longest_point_s) == (55.0, 85.0)
    assert duration_line(7, 2, plan) == "7 points on 2 replicas: about 4 min to 6 min"
    assert duration_line(1, 1, plan) == "1 points: about 55 s to 85 s"


@pytest.mark.parametrize(
    ("seconds", "words"), [(90.0, "90 s"), (121.0, "2 min"), (7200.0, "2.0 h")]
)
def test_durations_have_a_fitting_unit(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setattr(EnergyTotal, "mean_w", lambda _: 20.0)  # its load is the same at idle
    for module in (host_meter, sweep_rigs):
        monkeypatch.setattr(module, "has_admin_capability", lambda: False)
    emulator = Emulator.attach(build_library(), tmp_path / "gpus", "l4x1")
    emulator.set_load(0, core=0.5, mem=0.3, valid_s=math.inf)
    yield emulator
    pynvml.nvmlShutdown()


@pytest.mark.slow
def test_a_sweep_of_a_server_estimates_its_duration_and_ends_with_a_frontier(
    gpu: Emulator, url: str, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    plan = ["--windows", "2", "--window", "0.6", "--settle", "0", "--mixed-only", "--json"]
    lengths = ["--batch", "1,4", "--prompt", "8", "--output", "8"]
    command = ["bench", "sweep", "--url", url, "--gpu", "0", "--out", str(out), *lengths, *plan]
    run = CliRunner().invoke(main, command)
    assert run.exit_code == 0, run.output
    assert "2 points: about" in run.stderr
    assert "(1/2, " in run.stderr
    document = json.loads(run.stdout)
    assert document["provenance"]["energy_source"] == "emulated"
    assert {point["batch_limit"] for point in document["points"]} == {1, 4}
    assert len(document["recommendations"]) == 3
    assert yaml.safe_load((out / "frontier.yaml").read_text())["source"] == "emulated"
    assert "Emulated." in (out / "report.html").read_text()
