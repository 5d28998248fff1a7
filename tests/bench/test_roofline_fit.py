from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import roofline_fit
from roofline_fit import MeasuredRun, RooflineFit
from run_table import (
    architecture_of,
    host_bound,
    host_of,
    read_run_table,
    requests_of,
)
from steppe.roofline.energy_roofline import EnergyRoofline
from steppe.roofline.files import read_calibration, read_roofline
from steppe.roofline.hardware import ClockCurve, Host

DATA = Path(__file__).parents[3] / "shared" / "data" / "calibration"
CURVE = ClockCurve(0.8, 0.6, 0.9)
CURVES = {"h100": CURVE, "b200": CURVE}
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the public tables are not here")


def _made_up(factor: float) -> list[MeasuredRun]:
    """Return runs that the shipped roofline made up, all slower by a factor."""
    runs = []
    for name in ("llama-3.1-8b", "qwen3-8b", "qwen3-14b"):
        roofline = read_roofline(name, "h100", 1)
        for batch in (8, 32, 128):
            point = roofline.point(1980, batch, 385, 400)
            tps = point.output_tps / factor
            run = MeasuredRun(
                model=roofline.model,
                gpu=roofline.gpu,
                gpus=1,
                batch_limit=batch,
                task="lm-arena-chat",
                output_tokens=400.0,
                output_tps=tps,
                draw_w=point.draw_w,
                itl_s=batch / tps,
                fitted=True,
                host=Host(1, 400.0),
            )
            runs.append(run)
    return runs


@pytest.fixture(scope="module")
def fit() -> RooflineFit:
    return RooflineFit(_made_up(1.2), CURVES)


@pytest.mark.slow
def test_the_fit_follows_its_runs(fit: RooflineFit) -> None:
    modelled = fit.modelled(fit.fit(np.ones(9, dtype=bool)))
    errors = [modelled.output_tps[i] / run.output_tps - 1 for i, run in enumerate(fit.runs)]
    assert np.median(np.abs(errors)) < 0.05


@pytest.mark.slow
def test_a_run_left_out_does_not_count(fit: RooflineFit) -> None:
    runs = fit.runs
    wild = RooflineFit([*runs[:8], replace(runs[8], output_tps=1.0, draw_w=9.0)], CURVES)
    used = np.array([True] * 8 + [False])
    assert np.allclose(fit.fit(used), wild.fit(used))


def test_a_fit_without_a_minimum_raises(fit: RooflineFit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline_fit, "MOST_STEPS", 2)
    with pytest.raises(RuntimeError, match="a fit of 9 runs, found none in 2 steps"):
        fit.fit(np.ones(9, dtype=bool))


def test_fit_and_roofline_are_the_same_formula(fit: RooflineFit) -> None:
    known = fit.calibration(fit.prior, np.zeros(9, dtype=bool))
    prompt = fit.prompt_tokens(fit.prior)["lm-arena-chat"]
    modelled = fit.modelled(fit.prior)
    for i, run in enumerate(fit.runs):
        roofline = EnergyRoofline(run.model, run.gpu, 1, known, run.host)
        point = roofline.point(1980, run.batch_limit, prompt, 400.0)
        assert point.output_tps == pytest.approx(modelled.output_tps[i], rel=1e-9)
        assert point.draw_w == pytest.approx(modelled.draw_w[i], rel=1e-9)


def test_siblings_share_an_architecture() -> None:
    assert architecture_of("Qwen/Qwen3-30B-A3B-Thinking-2507") == "Qwen3-30B-A3B"
    assert architecture_of("deepseek-ai/DeepSeek-R1-0528") == architecture_of("a/DeepSeek-V3.1")


def test_a_newer_gpu_that_loses_shows_its_host() -> None:
    row = {"model_id": "a/b", "task": "chat", "num_gpus": "1", "max_num_seqs": "32"}
    row["median_itl_ms"] = "10"
    rows = [
        {**row, "gpu_model": "H100", "output_throughput_tokens_per_sec": "100"},
        {**row, "gpu_model": "B200", "output_throughput_tokens_per_sec": "90"},
        {
            **row,
            "gpu_model": "B200",
            "max_num_seqs": "64",
            "output_throughput_tokens_per_sec": "90",
        },
    ]
    assert host_bound(rows) == [False, True, False]


def test_a_host_holds_as_many_engines_as_it_has_gpus_for() -> None:
    row = {"model_id": "a/b", "task": "gpqa", "num_gpus": "2", "avg_output_len": "5000"}
    assert host_of(row) == Host(3, 5000.0)
    assert host_of({**row, "num_gpus": "8"}).crowding == 0.0


def test_only_answers_that_are_parsed_anew_crowd_a_host() -> None:
    row = {"model_id": "a/b", "task": "gpqa", "num_gpus": "1", "avg_output_len": "5000"}
    assert host_of(row).crowding == 35000.0
    assert host_of({**row, "task": "lm-arena-chat"}).crowding == 0.0
    assert host_of({**row, "model_id": "openai/gpt-oss-20b"}).crowding == 0.0


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_model_left_out_is_predicted_within_the_target_on_h100() -> None:
    rows = read_run_table(DATA / "mlenergy" / "llm_text_h100_b200.csv")
    rows = [row for row in rows if row.run.batch_limit <= 512]
    fit = RooflineFit([row.run for row in rows], read_calibration().curves)
    used = np.array([row.architecture != "Qwen3-8B" for row in rows])
    x = fit.fit(used)
    known, prompts = fit.calibration(x, used), fit.prompt_tokens(x)
    errors = []
    for row in rows:
        if row.architecture == "Qwen3-8B" and row.run.gpu.name == "h100":
            roofline = EnergyRoofline(row.run.model, row.run.gpu, 1, known, row.run.host)
            prompt = prompts[row.run.task]
            said = roofline.point(1980, row.run.batch_limit, prompt, row.run.output_tokens)
            errors.append(abs(said.joules_per_token * row.run.output_tps / row.run.draw_w - 1))
    assert np.median(errors) <= 0.08


@pytest.mark.parametrize(
    ("task", "batch_limit", "mean", "requests"),
    [
        ("gpqa", 8, 1480 + 5 / 198, 198),
        ("gpqa", 8, 1480 + 5 / 396, 396),
        ("gpqa", 512, 1480 + 5 / 198, 3 * 198),
        ("lm-arena-chat", 512, 870 + 1 / 1024, 1024),
        ("lm-arena-chat", 1024, 870.5, 2048),
    ],
)
def test_the_requests_of_a_run_follow_from_its_row(
    task: str, batch_limit: int, mean: float, requests: int
) -> None:
    row = {"task": task, "max_num_seqs": str(batch_limit), "avg_output_len": repr(mean)}
    assert requests_of(row) == requests
