from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from steppe.cli import main
from steppe.config import shipped_config
from steppe.roofline.files import read_longest_context

ASK = ["frontier", "--model", "llama-3.1-8b", "--gpu", "h100"]
BASIS = (
    "90th percentile of {} runs of 6 models (dense, 16-bit weights, one GPU) left out of the fit, "
    "on H100 and B200 at their highest clocks"
)
SCOUT = ["--model", "llama-4-scout", "--tp", "4"]


def _points(*more: str) -> list[dict[str, float]]:
    result = CliRunner().invoke(main, [*ASK, *more, "--json"])
    assert result.exit_code == 0, result.output
    points: list[dict[str, float]] = json.loads(result.output)["points"]
    return points


def test_the_json_document_keeps_its_contract() -> None:
    result = CliRunner().invoke(main, [*ASK, "--batch", "8,64", "--json"])
    document = json.loads(result.output)
    assert {key: said for key, said in document.items() if key != "points"} == {
        "gpu": "h100",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "tp": 1,
        "data_parallel": False,
        "input_tokens": 400,
        "output_tokens": 512,
        "source": "modelled",
        "clock_curve": "nominal",
        "corrected_by": None,
        "corrected_source": None,
        "assumed": [],
        "error_basis": [
            {"up_to_batch": 31, "runs": BASIS.format(30)},
            {"up_to_batch": 127, "runs": BASIS.format(36)},
        ],
    }
    wanted = {"clock_mhz", "batch_limit", "output_tps", "draw_w"}
    wanted |= {"joules_per_token", "tpot_s", "sequences", "pareto"}
    wanted |= {"joules_per_token_error", "output_tps_error", "joules_per_token_by_curve"}
    assert all(set(point) == wanted for point in document["points"])
    for point in document["points"]:
        assert point["joules_per_token"] == pytest.approx(point["draw_w"] / point["output_tps"])


def test_each_point_has_the_interval_of_the_clock_curve() -> None:
    asked = "--batch", "64", "--clock", "1095,1980"
    nominal = _points(*asked)
    low, high = (_points(*asked, "--clock-curve", name) for name in ("low", "high"))
    for point, lower, higher in zip(nominal, low, high, strict=True):
        by_curve = [lower["joules_per_token"], higher["joules_per_token"]]
        assert point["joules_per_token_by_curve"] == pytest.approx(by_curve)
    assert low[0]["joules_per_token"] < 0.99 * high[0]["joules_per_token"]
    assert low[1]["joules_per_token"] == pytest.approx(high[1]["joules_per_token"], rel=0.01)


def test_without_a_clock_there_is_one_point_for_each_batch_limit_at_the_highest() -> None:
    points = _points("--batch", "8,64,256")
    assert [(p["clock_mhz"], p["batch_limit"]) for p in points] == [
        (1980, 8),
        (1980, 64),
        (1980, 256),
    ]


def test_all_clocks_span_from_the_knee_to_the_highest() -> None:
    clocks = [p["clock_mhz"] for p in _points("--batch", "8", "--clock", "all")]
    assert clocks == sorted(clocks)
    assert clocks[-1] == 1980
    assert len(clocks) == 8


def test_no_point_beats_one_that_is_marked() -> None:
    points = _points("--clock", "all")
    for marked in (p for p in points if p["pareto"]):
        assert not any(
            p["output_tps"] > marked["output_tps"] and p["draw_w"] < marked["draw_w"]
            for p in points
        )


def test_a_batch_limit_beyond_the_memory_is_not_marked() -> None:
    ask = ["frontier", "--model", "llama-3.1-70b", "--gpu", "h100", "--tp", "4"]
    ask += ["--batch", "32,64,128,512", "--input-tokens", "8000", "--output-tokens", "500"]
    points = json.loads(CliRunner().invoke(main, [*ask, "--json"]).output)["points"]
    assert [p["pareto"] for p in points] == [True, True, False, False]
    assert [round(p["sequences"]) for p in points] == [32, 49, 49, 49]
    table = [line for line in CliRunner().invoke(main, ask).output.splitlines() if "│" in line]
    assert [line.split("│")[3].strip() for line in table] == ["32", "49", "49", "49"]


def test_longer_outputs_cost_more_each() -> None:
    short = _points("--batch", "64", "--output-tokens", "200", "--input-tokens", "16")[0]
    long = _points("--batch", "64", "--output-tokens", "8000", "--input-tokens", "16")[0]
    assert long["joules_per_token"] > short["joules_per_token"]


def _write_model(folder: Path, **more: object) -> None:
    config: dict[str, object] = {"model_type": "newcomer", "hidden_size": 3072}
    config |= {"num_hidden_layers": 30, "num_attention_heads": 24}
    config |= {"num_key_value_heads": 8, "intermediate_size": 9000, "vocab_size": 64000}
    (folder / "config.json").write_text(json.dumps(config | more))


def test_a_model_never_seen_needs_only_its_config(tmp_path: Path) -> None:
    _write_model(tmp_path)
    command = ["frontier", "--model", str(tmp_path), "--gpu", "b200", "--tp", "2", "--json"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.output)["points"]) == 7


def test_requests_beyond_the_longest_context_of_a_model_end_with_one_line_and_code_2(
    tmp_path: Path,
) -> None:
    _write_model(tmp_path, max_position_embeddings=4096)
    command = ["frontier", "--model", str(tmp_path), "--gpu", "b200", "--input-tokens", "4000"]
    result = CliRunner().invoke(main, [*command, "--output-tokens", "97"])
    assert result.exit_code == 2
    said = "asked for requests of 4097 tokens (4000 in, 97 out), found a longest context of 4096"
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert CliRunner().invoke(main, [*command, "--output-tokens", "96"]).exit_code == 0


def test_each_known_model_has_a_longest_context() -> None:
    known = yaml.safe_load(shipped_config("models.yaml").read_text(encoding="utf-8"))["models"]
    found = {model: read_longest_context(model) for model in known}
    assert [model for model, tokens in found.items() if not (tokens or 0) >= 8192] == []


def test_a_model_without_a_longest_context_takes_any_length(
    tmp_path: Path,
) -> None:
    _write_model(tmp_path)
    command = ["frontier", "--model", str(tmp_path), "--gpu", "b200", "--input-tokens", "100000"]
    assert CliRunner().invoke(main, command).exit_code == 0


def test_a_repeated_batch_limit_is_one_point() -> None:
    assert [p["batch_limit"] for p in _points("--batch", "8,8,4")] == [8, 4]


def test_a_narrow_terminal_cuts_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = []
    for columns in ("40", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        tables.append(CliRunner().invoke(main, [*ASK, "--batch", "8,64"]).output)
    assert "…" not in tables[0]
    assert [line.strip() for line in tables[0].splitlines() if "│" in line] == [
        line.strip() for line in tables[1].splitlines() if "│" in line
    ]


def test_people_get_a_table() -> None:
    result = CliRunner().invoke(main, [*ASK, "--batch", "8"])
    assert "modelled" in result.output
    assert "Pareto" in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gpu", "h900"], "asked for GPU 'h900'"),
        (["--model", "no-such-model"], "asked for model no-such-model"),
        (["--model", "llama-3.1-8"], "llama-3.1-8b"),
        (["--model", ""], "'--model': asked for a text that is not empty, found ''"),
        (["--gpu", ""], "'--gpu': asked for a text that is not empty, found ''"),
        (["--tp", "3"], "asked for tp 3"),
        (["--model", "phi-4", "--tp", "4"], "asked for tp 4, found 10 key/value heads in "),
        (["--model", "llama-3.1-405b"], "GB of weights"),
        (["--batch", "8,x"], "'--batch': asked for whole numbers"),
        (["--batch", "0"], "'--batch': asked for numbers above 0"),
        (["--batch", "9" * 21], "'--batch': asked for numbers up to 10,000,000"),
        (["--clock", "any"], "'--clock': asked for whole numbers"),
        (["--clock", "9000"], "asked for 210 to 1980 MHz"),
        (["--input-tokens", "1000000"], "found a longest context of 131072"),
        ([*SCOUT, "--input-tokens", "10000000"], "found no room for one beside the weights"),
    ],
)
def test_an_invalid_option_ends_with_one_line_and_code_2(options: list[str], said: str) -> None:
    result = CliRunner().invoke(main, [*ASK, *options])
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_each_point_has_its_expected_error() -> None:
    moe = ["frontier", "--model", "gpt-oss-20b", "--gpu", "h100", "--batch", "8,256", "--json"]
    dense, experts = _points("--batch", "8,256"), json.loads(CliRunner().invoke(main, moe).output)
    for plain, harder in zip(dense, experts["points"], strict=True):
        assert 0.0 < plain["joules_per_token_error"] < harder["joules_per_token_error"] < 0.5
        assert 0.0 < plain["output_tps_error"] < harder["output_tps_error"] < 0.5
    table = CliRunner().invoke(main, [*ASK, "--batch", "8"]).output
    assert f"{dense[0]['joules_per_token_error']:.0%}" in table
    assert f"{dense[0]['output_tps_error']:.0%}" in table


def test_an_assumption_about_a_config_is_printed(tmp_path: Path) -> None:
    quantised: dict[str, object] = {"quant_method": "fp8"}
    _write_model(tmp_path, quantization_config=quantised)
    command = ["frontier", "--model", str(tmp_path), "--gpu", "h100", "--batch", "8", "--json"]
    result = CliRunner().invoke(main, command)
    line = (
        f"config of {tmp_path.name}: quantization_config.weight_block_size: "
        "not stated, assumed none"
    )
    assert result.stderr == f"steppe: note: {line}\n"
    assert json.loads(result.stdout)["assumed"] == [line]
    _write_model(tmp_path, quantization_config={**quantised, "weight_block_size": [128, 128]})
    result = CliRunner().invoke(main, command)
    assert result.stderr == ""
    assert json.loads(result.stdout)["assumed"] == []


@pytest.mark.parametrize("missing", ["--model", "--gpu"])
def test_a_missing_model_or_gpu_is_named(missing: str) -> None:
    given = {"--model": "llama-3.1-8b", "--gpu": "h100"}
    del given[missing]
    result = CliRunner().invoke(main, ["frontier", *next(iter(given.items()))])
    assert result.exit_code == 2
    assert f"Missing option '{missing}'" in result.output


def test_attention_can_run_data_parallel() -> None:
    ask = ["frontier", "--model", "qwen3-30b-a3b-instruct-2507", "--gpu", "b200", "--tp", "2"]
    split, ranks = (
        json.loads(CliRunner().invoke(main, [*ask, *more, "--json"]).output)["points"][0]
        for more in ([], ["--data-parallel"])
    )
    assert 0 < ranks["output_tps"] < split["output_tps"]


WITHOUT_ENGINES = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "vllm", "torch", "transformers", "triton", "pynvml"}:
            raise ModuleNotFoundError(f"not installed: {name}", name=name)

sys.meta_path.insert(0, Refuse())
from steppe.cli import main
main(sys.argv[1:])
"""


def test_a_frontier_needs_neither_ray_nor_an_engine() -> None:
    command = [sys.executable, "-c", WITHOUT_ENGINES, *ASK, "--batch", "8", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(json.loads(run.stdout)["points"]) == 1
