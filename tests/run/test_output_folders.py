from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from steppe.cli import main
from steppe.errors import UsageError
from steppe.measure.provenance import Provenance
from steppe.measure.sweep.result import RestWatts
from steppe.measure.sweep.store import ResultsFile, RunHead
from steppe.run.output_folders import NewFolder, SweepFolder

CONFIG = """
model: {name: none}
engine: {kind: synthetic, max_batch_limit: 16}
device: {kind: emulated, profile: l4, count: 1}
power: {supply: [{kind: constant, watts: 90}]}
frontier: {sweep: {}}
gateway: {port: 0}
"""
WRITERS = (
    ("serve", "run.yaml", "--record"),
    ("simulate", "run.yaml", "--record"),
    ("demo", "--config", "run.yaml", "--record"),
    ("bench", "sweep", "run.yaml", "--out"),
    ("bench", "serve", "--concurrency", "1", "--meter", "none", "--out"),
)
STARTERS = (
    "serve.running_fleet",
    "simulate.record_simulation",
    "demo.run_day",
    "bench_sweep.fleet_target",
    "bench_serve.measure_load",
)


@pytest.fixture(autouse=True)
def _nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(CONFIG)
    for name in STARTERS:
        monkeypatch.setattr(f"steppe.cli.{name}", None)


def refused(*arguments: str) -> str:
    result: Result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 2, result.output
    return result.output


@pytest.mark.parametrize("command", WRITERS, ids=lambda command: " ".join(command[:2]))
def test_nothing_starts_if_the_output_cannot_be_written(command: tuple[str, ...]) -> None:
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full", "record.jsonl").write_text("mine")
    for path, said in (
        ("file", "Not a directory"),
        ("file/below", "Not a directory"),
        ("full", "found a full one"),
        ("/proc/mine", "cannot write here"),
        ("", "found an empty one"),
    ):
        assert said in refused(*command, path)
    assert sorted(p.name for p in Path().iterdir()) == ["file", "full", "run.yaml"]


def test_only_the_folder_of_a_sweep_continues_it() -> None:
    provenance = Provenance(
        boundary="gpu", energy_source="measured", meter="counter", counter_period_s=0.1,
        gpus=("H100",), uuids=("GPU-1",), driver="580", model="m", engine="vllm", seed=0,
        host="x", versions={}, commit=None,
    )  # fmt: skip
    ResultsFile(Path("sweep")).begin(RunHead(provenance, RestWatts(), {}))
    SweepFolder().refuse(Path("sweep"))
    with pytest.raises(UsageError, match="found a full one"):
        NewFolder().refuse(Path("sweep"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--batch", "8,64"), "--batch: asked for 64, found a replica of at most 16"),
        (("--clock", "5"), "--clock: asked for 5 MHz, found 210 as the nearest"),
    ],
)
def test_a_point_beyond_the_limits_of_the_replicas_is_refused_before_they_start(
    options: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = SimpleNamespace(capabilities=SimpleNamespace(sm_clocks_mhz=(210, 225)))
    monkeypatch.setattr("steppe.run.sweep.config_gpus", lambda config: (gpu,))
    assert said in refused("bench", "sweep", "run.yaml", "--out", "new", *options)


def test_a_sweep_of_modelled_gpus_is_refused() -> None:
    Path("run.yaml").write_text(
        CONFIG.replace("{kind: emulated, profile: l4, count: 1}", "{kind: modelled, gpu: h100}")
    )
    assert "device.kind" in refused("bench", "sweep", "run.yaml", "--out", "new")
