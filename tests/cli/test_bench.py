from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from steppe.cli.bench import bench_group
from steppe.errors import UsageError
from steppe.measure.provenance import Provenance
from steppe.measure.serving import FORMULAS
from steppe.measure.sweep.result import (
    ClientTimes,
    GpuSummary,
    MeasuredWindow,
    Phase,
    PointResult,
    RestWatts,
    Setting,
)
from steppe.measure.sweep.store import ResultsFile, RunHead

SCREEN = (80, 50)
FIXED = ("--prompt", "3", "--output", "3")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(bench_group, list(arguments), catch_exceptions=True)


def test_help_teaches_the_method_in_one_screen() -> None:
    text = invoke("--help").output
    width, height = SCREEN
    assert text.count("\n") <= height
    assert max(len(line) for line in text.splitlines()) <= width
    for word in ("counters", "Saturate", "steady state", "95 %", "Refuse", "MLPerf"):
        assert word in text


def test_every_formula_is_explained() -> None:
    found = json.loads(invoke("serve", "--explain", "--json").output)
    assert found == FORMULAS
    assert "energy_per_output_token" in invoke("serve", "--explain").output


def test_a_closed_loop_without_a_meter_has_vllms_keys_and_no_energy(
    url: str, tmp_path: Path
) -> None:
    options = ["--concurrency", "4", "--requests", "8", "--prompt", "8", "--output", "5"]
    result = invoke(
        "serve", "--url", url, *options, "--meter", "none", "--json", "--out", str(tmp_path)
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["completed"], found["total_output_tokens"]) == (8, 40)
    assert found["loop"] == "closed"
    assert found["energy_per_output_token"] is None
    assert found["provenance"]["energy_source"] == "none"
    assert {p.name for p in tmp_path.iterdir()} == {
        "serve.json", "profile_export_aiperf.json", "profile_export.jsonl",
    }  # fmt: skip


def test_a_closed_loop_runs_for_a_duration(url: str) -> None:
    options = ["--concurrency", "3", "--duration", "0.6", "--prompt", "8", "--output", "5"]
    result = invoke("serve", "--url", url, *options, "--meter", "none", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["max_concurrency"] == 3
    assert found["completed"] > 3  # more than one for each user
    assert (found["failed"], found["not_sent"]) == (0, 0)
    assert 0.6 <= found["duration"] < 5.0


def test_results_are_printed_before_they_are_written(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("steppe.run.serve_load.write_aiperf", full)
    options = ["--concurrency", "1", "--requests", "1", "--prompt", "8", "--output", "2"]
    out = ["--meter", "none", "--json", "--out", str(tmp_path / "new")]
    result = invoke("serve", "--url", url, *options, *out)
    assert isinstance(result.exception, UsageError)
    assert "No space left" in str(result.exception)
    assert json.loads(result.stdout)["completed"] == 1


def test_an_open_loop_sends_at_its_rate(url: str) -> None:
    options = ["--rate", "40", "--duration", "0.5", "--prompt", "8", "--output", "3"]
    result = invoke("serve", "--url", url, *options, "--meter", "none", "--json")
    found = json.loads(result.stdout)
    assert 5 <= found["completed"] <= 45
    assert found["loop"] == "open"


@pytest.mark.parametrize(
    "loop",
    [
        ("--concurrency", "2", "--length-scale", "0.02"),
        ("--rate", "200", "--duration", "3", "--length-scale", "0.02"),
        ("--rate", "200", "--duration", "3", *FIXED),
    ],
)
def test_the_number_of_requests_can_be_limited(url: str, loop: tuple[str, ...]) -> None:
    result = invoke("serve", "--url", url, *loop, "--requests", "3", "--meter", "none", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["completed"] == 3


def test_more_requests_than_a_load_has_are_refused(url: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text('{"timestamp": 0, "input_length": 1, "output_length": 1}\n')
    for options, message in (
        (("--rate", "3", "--duration", "1"), "asked for 1,000 requests, found 2 within 1 s"),
        (
            ("--concurrency", "2", "--trace", str(trace)),
            f"asked for 1,000 requests, found 1 in {trace}",
        ),
    ):
        result = invoke(
            "serve", "--url", url, "--requests", "1000", *options, "--meter", "none",
        )  # fmt: skip
        assert isinstance(result.exception, UsageError)
        assert str(result.exception).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("serve",), "exactly one of --concurrency and --rate"),
        (("serve", "--rate", "1", "--prompt", "3"), "both of --prompt and --output"),
        (("serve", "--rate", "1", *FIXED, "--trace", "x"), "or a --trace, not both"),
        (("serve", "--rate", "1", *FIXED, "--length-scale", "9"), "--length-scale with a --trace"),
        (
            ("serve", "--concurrency", "1", "--requests", "5", "--duration", "9"),
            "--requests or --duration with --concurrency, not both",
        ),
        (("serve", "--concurrency", "1000000000000", *FIXED), "asked for 10,000,000,000,000 requ"),
        (("serve", "--concurrency", "1", "--requests", "1000000000000", *FIXED), "room for 50,0"),
        (("sweep", "--out", "x"), "exactly one of CONFIG and --url"),
        (
            ("sweep", "--out", "x", "--url", "y", "--trace", "t", "--prompt", "8"),
            "give --trace or --prompt and --output, not both",
        ),
        (
            ("sweep", "--out", "x", "--url", "y", "--trace", "absent.csv"),
            "absent.csv: asked for a request trace, found: No such file or directory",
        ),
        (("compare", "x"), "found 1 result"),
    ],
)
def test_contradicting_options_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


@pytest.mark.parametrize("option", ["--prompt", "--output", "--length-scale"])
def test_absurd_lengths_are_refused(option: str) -> None:
    result = invoke("serve", "--rate", "1", *FIXED, option, "100000000000")
    assert result.exit_code == 2
    assert f"'{option}': 100000000000" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "asked for slices, a list, and provenance.energy_source, a text"),
        ('{"slices": null, "provenance": {"energy_source": "x"}}', "asked for slices, a list"),
        (
            '{"slices": [{"a": 1}], "provenance": {"energy_source": "x"}}',
            "slices.0: asked for finite numbers from 0 in duration_s, energy_j and output_tokens, "
            "found {'a': 1}",
        ),
        *[
            (
                f'{{"slices": [{{"duration_s": {duration}, "energy_j": 1, "output_tokens": '
                f'{tokens}}}], "provenance": {{"energy_source": "x"}}}}',
                "slices.0: asked for finite numbers from 0 in duration_s",
            )
            for duration, tokens in (("-1", "5"), ("1", "-5"), ("true", "5"), ("1", "null"))
        ],
        (
            '{"slices": [], "total_gpu_energy_error": "x", "provenance": {"energy_source": "x"}}',
            "total_gpu_energy_error: asked for a number from 0, found 'x'",
        ),
        (
            '{"slices": [3], "provenance": {"energy_source": "x"}}',
            "slices.0: asked for finite numbers from 0 in duration_s",
        ),
    ],
)
def test_a_file_that_is_not_a_result_is_named_with_its_mistake(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "serve.json").write_text(text)
    result = invoke("compare", str(tmp_path), str(tmp_path))
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_a_list_of_numbers_must_hold_numbers() -> None:
    result = invoke("sweep", "--out", "x", "--url", "y", "--batch", "1,two")
    assert result.exit_code == 2
    assert "whole numbers" in result.output


def write_sweep(folder: Path, provenance: Provenance, level: float) -> None:
    file = ResultsFile(folder)
    file.begin(RunHead(provenance, RestWatts(), {"windows": 3, "window_s": 10.0}))
    for batch in (1, 2, 4, 8, 16, 32, 64):
        windows = tuple(
            MeasuredWindow(10.0, level * 500 * ripple, 0.1, 100, 500, 100 * batch)
            for ripple in (0.99, 1.0, 1.01)
        )
        setting = Setting(Phase.MIXED, 1800, batch, 144, 26)
        gpu, times = GpuSummary(1800.0, 50, 51, (), 1), ClientTimes()
        file.add(PointResult(setting, "r", "now", 1.0, windows, 0.1, "counter", times, gpu, ()))


def test_comparing_sweeps_shows_whether_the_difference_is_real(
    tmp_path: Path, provenance: Provenance
) -> None:
    for name, level in (("a", 1.0), ("b", 0.9), ("c", 1.0)):
        write_sweep(tmp_path / name, provenance, level)
    folders = [str(tmp_path / name) for name in "abc"]
    found = json.loads(invoke("compare", *folders, "--json").output)
    lean, same = (row["energy_per_output_token"] for row in found["comparisons"])
    assert lean["is_real"]
    assert lean["ratio"]["value"] == pytest.approx(0.9)
    assert not same["is_real"]
    shown = invoke("compare", *folders[:2], "--points").output
    assert "the difference is real" in shown
    assert "mixed c1800 b64 p144 o26" in shown


def test_a_sweep_and_a_load_test_cannot_be_compared(tmp_path: Path, provenance: Provenance) -> None:
    write_sweep(tmp_path / "a", provenance, 1.0)
    result = invoke("compare", str(tmp_path / "a"), write_load(tmp_path / "b", [(1.0, 1)] * 3))
    assert isinstance(result.exception, UsageError)
    assert str(result.exception).endswith(f"b: a serve, and {tmp_path / 'a'} a sweep")


Pieces = list[tuple[float, float]]


def write_load(folder: Path, pieces: Pieces, error_j: float | None = 0.0) -> str:
    """Write a load test whose slices of 1 s have these joules and tokens."""
    folder.mkdir()
    slices = [{"duration_s": 1.0, "energy_j": j, "output_tokens": t} for j, t in pieces]
    document = {
        "slices": slices,
        "total_gpu_energy_error": error_j,
        "provenance": {"energy_source": "measured"},
    }
    (folder / "serve.json").write_text(json.dumps(document))
    return str(folder)


def compared(*folders: str) -> dict[str, Any]:
    result = invoke("compare", *folders, "--json")
    assert result.exit_code == 0, result.exception
    found: dict[str, Any] = json.loads(result.output)["comparisons"][0]
    return found


@pytest.mark.parametrize(
    ("baseline", "other", "change"),
    [
        ([(300.0, 100), (300.0, 0)] * 6, [(300.0, 100), (100.0, 0)] * 6, 4 / 6),
        ([(100.0, 100)] * 10, [(100.0, 200), (100.0, 0)] * 5, 1.0),
        ([(100.0, 100)] * 10, [(100.0, 50), (100.0, 150)] * 6, 1.0),
    ],
)
def test_the_change_between_two_loads_counts_idle_slices_too(
    tmp_path: Path, baseline: Pieces, other: Pieces, change: float
) -> None:
    found = compared(write_load(tmp_path / "a", baseline), write_load(tmp_path / "b", other))
    assert found["energy_per_output_token"]["ratio"]["value"] == pytest.approx(change)


def test_savings_at_idle_are_a_real_difference(tmp_path: Path) -> None:
    burning = write_load(tmp_path / "a", [(300.0, 100), (300.0, 0)] * 30)
    sleeping = write_load(tmp_path / "b", [(300.0, 100), (100.0, 0)] * 30)
    found = compared(burning, sleeping)
    assert found["energy_per_output_token"]["is_real"]
    assert not found["output_throughput"]["is_real"]
    assert "60 and 60 windows" in found["energy_per_output_token"]["sentence"]


@pytest.mark.parametrize("error_j", [25.0, None])
def test_the_meters_error_decides_whether_loads_differ(
    tmp_path: Path, error_j: float | None
) -> None:
    a = [(100.0 + i % 2, 100.0) for i in range(10)]
    b = [(96.0 + i % 2, 100.0) for i in range(10)]
    sure = compared(write_load(tmp_path / "a", a), write_load(tmp_path / "b", b))
    assert sure["energy_per_output_token"]["is_real"]
    unsure = compared(
        write_load(tmp_path / "c", a, error_j), write_load(tmp_path / "d", b, error_j)
    )
    assert not unsure["energy_per_output_token"]["is_real"]


@pytest.mark.parametrize("piece", [(100.0, 0.0), (0.0, 100.0)])
def test_a_load_without_tokens_or_joules_is_named(
    tmp_path: Path, piece: tuple[float, float]
) -> None:
    sound, empty = write_load(tmp_path / "a", [(1.0, 1)] * 3), write_load(tmp_path / "b", [piece])
    result = invoke("compare", sound, empty)
    assert isinstance(result.exception, UsageError)
    assert "b/serve.json" in str(result.exception)
    assert "in the slices, found none" in str(result.exception)
