"""`steppe bench sweep` against a server, with an emulated GPU."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest
import yaml
from click.testing import CliRunner, Result

from steppe.cli import main
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.energy.meter import EnergyTotal
from steppe.measure.sweep.point import MeasurePlan
from steppe.run import host_meter, sweep_rigs
from steppe.run.sweep_progress import duration_line, in_words


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


def swept(url: str, out: Path, *lengths: str) -> Result:
    plan = ["--windows", "2", "--window", "0.6", "--settle", "0", "--mixed-only", "--json"]
    command = ["bench", "sweep", "--url", url, "--gpu", "0", "--out", str(out), "--batch", "1,4"]
    return CliRunner().invoke(main, [*command, *lengths, *plan])


@pytest.mark.slow
def test_a_sweep_with_a_trace_keeps_its_lengths_in_results_and_frontier(
    gpu: Emulator, url: str, tmp_path: Path
) -> None:
    trace, out = tmp_path / "requests.jsonl", tmp_path / "sweep"
    rows = [{"arrival_s": n, "prompt_tokens": 6 + n, "output_tokens": 8} for n in range(4)]
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = swept(url, out, "--trace", str(trace))
    assert run.exit_code == 0, run.output
    assert f"{trace}: 4 of 4 requests, mean 8 tokens in and 8 out" in run.stderr
    document = json.loads(run.stdout)
    assert (document["trace"]["prompt_tokens"], document["trace"]["output_tokens"]) == (7.5, 8.0)
    frontier = yaml.safe_load((out / "frontier.yaml").read_text())
    assert frontier["lengths"] == {"prompt_tokens": 7.5, "output_tokens": 8.0, "cached_tokens": 0}
    assert frontier["provenance"]["trace"]["file"] == str(trace)
    head = json.loads((out / "results.jsonl").read_text().splitlines()[0])
    assert sorted(head["plan"]["sample"]["pairs"]) == [[6 + n, 8] for n in range(4)]
    again = swept(url, out, "--trace", str(trace))
    assert "2 of 2 points are measured already" in again.stderr


@pytest.mark.slow
def test_a_sweep_of_a_server_estimates_its_duration_and_ends_with_a_frontier(
    gpu: Emulator, url: str, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    run = swept(url, out, "--prompt", "8", "--output", "8")
    assert run.exit_code == 0, run.output
    assert "2 points: about" in run.stderr
    assert "(1/2, " in run.stderr
    document = json.loads(run.stdout)
    assert document["provenance"]["energy_source"] == "emulated"
    assert {point["batch_limit"] for point in document["points"]} == {1, 4}
    assert len(document["recommendations"]) == 3
    frontier = yaml.safe_load((out / "frontier.yaml").read_text())
    assert (frontier["source"], frontier["gpus_per_replica"]) == ("emulated", 1)
    assert "Emulated." in (out / "report.html").read_text()
