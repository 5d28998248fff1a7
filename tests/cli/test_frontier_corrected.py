"""A frontier file that was swept corrects the model, and says what it was itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from steppe.cli import main
from steppe.config import shipped_config
from steppe.frontier.file import FrontierSubject, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

ASK = ["frontier", "--model", "llama-3.1-8b", "--gpu", "h100"]


def _points(*more: str) -> list[dict[str, float]]:
    result = CliRunner().invoke(main, [*ASK, *more, "--json"])
    assert result.exit_code == 0, result.output
    points: list[dict[str, float]] = json.loads(result.output)["points"]
    return points


def test_measured_points_correct_the_other_points(tmp_path: Path) -> None:
    lengths = ("--input-tokens", "400", "--output-tokens", "500")
    said = _points("--batch", "8,32,128", *lengths)
    points = [
        OperatingPoint(1980, int(p["batch_limit"]), 0.8 * p["output_tps"], p["draw_w"])
        for p in said
    ]
    file = tmp_path / "mine.yaml"
    write_frontier(Frontier.of(points, 70.0, 80.0, "measured"), file)
    (before,), (after,) = (
        _points("--batch", "64", *lengths, *more) for more in ((), ("--measured", str(file)))
    )
    assert after["output_tps"] == pytest.approx(0.8 * before["output_tps"], rel=0.05)


def test_points_without_a_clock_limit_are_at_the_highest_clock(tmp_path: Path) -> None:
    found = []
    for clock_mhz in (0, 1980):
        file = tmp_path / f"{clock_mhz}.yaml"
        point = OperatingPoint(clock_mhz, 64, 4000.0, 600.0)
        write_frontier(Frontier.of([point], 70.0, 80.0, "measured"), file)
        found.append(_points("--batch", "64", "--measured", str(file)))
    assert found[0] == found[1]


def _corrected(
    folder: Path, subject: FrontierSubject, gpu: str = "h100", *more: str, source: str = "measured"
) -> Result:
    file = folder / "mine.yaml"
    point = OperatingPoint(1980, 64, 4000.0, 600.0)
    write_frontier(Frontier.of([point], 70.0, 80.0, source), file, subject)
    ask = ["frontier", "--model", "llama-3.1-8b", "--gpu", gpu, "--batch", "64"]
    return CliRunner().invoke(main, [*ask, "--measured", str(file), *more])


@pytest.mark.parametrize(
    "subject",
    [
        FrontierSubject(),
        FrontierSubject("llama-3.1-8b", "h100"),
        FrontierSubject("meta-llama/Llama-3.1-8B-Instruct", "NVIDIA H100 80GB HBM3"),
        FrontierSubject("/srv/models/Llama-3.1-8B-Instruct"),
    ],
)
def test_the_title_names_the_file_that_corrects_the_points(
    tmp_path: Path, subject: FrontierSubject
) -> None:
    result = _corrected(tmp_path, subject)
    assert result.exit_code == 0, result.output
    title = f"(modelled, corrected by {tmp_path / 'mine.yaml'})"
    assert "".join(title.split()) in "".join(result.output.split())
    document = json.loads(_corrected(tmp_path, subject, "h100", "--json").output)
    assert document["source"] == "modelled"
    assert document["corrected_by"] == str(tmp_path / "mine.yaml")
    assert document["corrected_source"] == "measured"


def test_a_correction_by_an_emulated_frontier_is_labelled_emulated(
    tmp_path: Path,
) -> None:
    result = _corrected(tmp_path, FrontierSubject(), source="emulated")
    assert result.exit_code == 0, result.output
    title = f"(modelled, corrected by {tmp_path / 'mine.yaml'} (emulated))"
    assert "".join(title.split()) in "".join(result.output.split())
    result = _corrected(tmp_path, FrontierSubject(), "h100", "--json", source="emulated")
    document = json.loads(result.output)
    assert document["source"] == "modelled"
    assert document["corrected_source"] == "emulated"


@pytest.mark.parametrize("source", ["Modelled", "counter", "estimated"])
def test_a_frontier_with_an_unknown_source_is_refused(tmp_path: Path, source: str) -> None:
    result = _corrected(tmp_path, FrontierSubject(), source=source)
    says = f"source: asked for 'measured', 'emulated' or 'modelled', found {source!r}"
    assert result.exit_code == 2
    assert result.stderr == f"steppe: {tmp_path / 'mine.yaml'}: {says}\n"


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        (
            FrontierSubject("qwen3-8b", "h100"),
            "model: asked for llama-3.1-8b, found qwen3-8b",
        ),
        (FrontierSubject("llama-3.1-8b", "NVIDIA L4"), "gpu: asked for h100, found NVIDIA L4"),
        (FrontierSubject("llama-3.1-8b", "NVIDIA L40S"), "gpu: asked for h100, found NVIDIA L40S"),
    ],
)
def test_a_frontier_of_another_model_or_gpu_is_refused(
    tmp_path: Path, subject: FrontierSubject, says: str
) -> None:
    result = _corrected(tmp_path, subject)
    assert result.exit_code == 2
    assert result.stderr == f"steppe: {tmp_path / 'mine.yaml'}: {says}\n"


def test_a_frontier_may_come_through_a_pipe(tmp_path: Path) -> None:
    write_frontier(
        Frontier.of([OperatingPoint(1980, 64, 4000.0, 600.0)], 70.0, 80.0, "measured"),
        tmp_path / "mine.yaml",
    )
    end, begin = os.pipe()
    os.write(begin, (tmp_path / "mine.yaml").read_bytes())
    os.close(begin)
    assert _points("--batch", "64", "--measured", f"/dev/fd/{end}")
    os.close(end)


@pytest.mark.parametrize(
    ("clock_mhz", "source", "says"),
    [
        (1980, "modelled", "source: asked for measured points, found modelled ones"),
        (2500, "measured", "clock_mhz: asked for 210 to 1980 MHz on h100, found 2500"),
        (100, "measured", "clock_mhz: asked for 210 to 1980 MHz on h100, found 100"),
    ],
)
def test_points_that_this_gpu_cannot_run_are_refused(
    tmp_path: Path, clock_mhz: int, source: str, says: str
) -> None:
    file = tmp_path / "mine.yaml"
    point = OperatingPoint(clock_mhz, 64, 4000.0, 600.0)
    write_frontier(Frontier.of([point], 70.0, 80.0, source), file)
    result = CliRunner().invoke(main, [*ASK, "--measured", str(file)])
    assert result.exit_code == 2
    assert f"{file}: {says}\n" in result.output


def test_a_users_own_gpu_file_takes_the_frontier_of_any_gpu(tmp_path: Path) -> None:
    own = tmp_path / "rig.yaml"
    text = (shipped_config("gpus") / "h100.yaml").read_text()
    own.write_text(text.replace("name: h100", "name: rig"))
    result = _corrected(tmp_path, FrontierSubject("llama-3.1-8b", "NVIDIA L40S"), str(own))
    assert result.exit_code == 0, result.output
