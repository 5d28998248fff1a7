"""`steppe bench sweep` against a server, with an emulated GPU."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest
import yaml
from click.testing import CliRunner, Result

from steppe.cli import main
from steppe.config import PaceSection
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.energy.meter import EnergyTotal
from steppe.engine.control_block import ControlBlock
from steppe.engine.seam import Seam
from steppe.engine.synthetic import SyntheticSettings, start_synthetic
from steppe.measure.sweep.point import MeasurePlan
from steppe.roofline.energy_roofline import StepWork
from steppe.run import host_meter, sweep_rigs
from steppe.run.sweep_progress import duration_line, in_words
from steppe.sim.engine.pace_model import PaceModel, emulated_profile

PACE = PaceSection(weights_s=0.04, decode_s=0.004, prefill_s=0.0004, overlap=4)
"""Steps so long that the time between two of them, on any machine, hardly lowers the draw."""


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


def swept(url: str, out: Path, *lengths: str, gpus: tuple[str, ...] = ("0",)) -> Result:
    plan = ["--windows", "2", "--window", "0.6", "--settle", "0", "--mixed-only", "--json"]
    command = ["bench", "sweep", "--url", url, "--out", str(out), "--batch", "1,4"]
    own = [part for gpu in gpus for part in ("--gpu", gpu)]
    return CliRunner().invoke(main, [*command, *own, *lengths, *plan])


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A synthetic engine on two of four emulated H100s, paced by them; yields its address."""
    for module in (host_meter, sweep_rigs):
        monkeypatch.setattr(module, "has_admin_capability", lambda: False)
    monkeypatch.setattr(EnergyTotal, "mean_w", lambda _: 200.0)
    state = tmp_path / "gpus"
    Emulator.attach(build_library(), state, "h100x4")
    block = ControlBlock.create(tmp_path / "block")
    hook = {"state": str(state), "gpu_indices": [1, 2], **PACE.model_dump()}
    seam = Seam(str(block.path), "steppe.emulator.coupling:couple", hook)
    loop = asyncio.new_event_loop()
    settings = SyntheticSettings("m", max_batch_limit=8)
    engine = loop.run_until_complete(start_synthetic(settings, seam, "127.0.0.1"))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{engine.port}"
    asyncio.run_coroutine_threadsafe(engine.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
    block.close()
    pynvml.nvmlShutdown()


@pytest.mark.slow
def test_a_sweep_of_a_server_on_two_gpus_sums_their_draw_and_says_that_two_share_the_model(
    two_gpus: str, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    run = swept(two_gpus, out, "--prompt", "8", "--output", "8", gpus=("1", "2"))
    assert run.exit_code == 0, run.output
    one = PaceModel(emulated_profile("h100"), PACE)
    document = json.loads(run.stdout)
    for point in document["points"]:
        draw_w = one.step_draw_w(StepWork(0, point["batch_limit"], 0), 1980)
        assert point["draw_w"]["value"] == pytest.approx(2 * draw_w, rel=0.1)
    frontier = yaml.safe_load((out / "frontier.yaml").read_text())
    assert frontier["gpus_per_replica"] == 2
    assert len(document["provenance"]["gpus"]) == 2


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
