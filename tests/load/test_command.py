from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from steppe.errors import TraceError, UsageError
from steppe.load.arrivals import Arrival, poisson
from steppe.load.command import LoadPlan, load_command, plan_arrivals, run_load

TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.0,40,8
2023-11-16 18:15:47.0,80,16
2023-11-16 18:15:48.0,120,24
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "azure.csv"
    path.write_text(TRACE)
    return path


def invoke(server: Any, *arguments: str) -> Result:
    return CliRunner().invoke(load_command, ["--url", server.url, *arguments])


def test_json_is_one_document_and_the_rows_go_to_their_file(
    server: Any, trace: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    result = invoke(
        server,
        *("--trace", str(trace), "--rate", "50", "--length-scale", "0.5", "--json"),
        *("--requests", str(rows)),
    )
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["completed"], document["total_output_tokens"]) == (3, 4 + 8 + 12)
    assert document["model"] == "small"
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    assert sorted(row["output_tokens"] for row in written) == [4, 8, 12]


def test_a_file_of_rows_that_exists_stays_as_it_is(server: Any, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("mine")
    result = invoke(server, "--requests", str(rows))
    assert isinstance(result.exception, UsageError)
    assert rows.read_text() == "mine"
    assert server.bodies == []


def test_without_json_a_table_is_shown(server: Any, trace: Path) -> None:
    result = invoke(server, "--trace", str(trace), "--rate", "50")
    assert result.exit_code == 0
    assert "output tokens/s" in result.stdout
    assert "TTFT" in result.stdout


def test_a_failed_request_makes_the_exit_code_one(server: Any, trace: Path) -> None:
    server.refusals = [(500, {})]
    result = invoke(server, "--trace", str(trace), "--rate", "50", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["failed"] == 1


def test_a_request_that_was_never_sent_makes_the_exit_code_one(server: Any, trace: Path) -> None:
    result = invoke(server, "--trace", str(trace), "--rate", "0.01", "--deadline", "1", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["completed"], document["not_sent"]) == (1, 2)
    assert document["slo_attainment"] == 1.0


def test_a_synthetic_closed_loop_runs(server: Any) -> None:
    result = invoke(
        server,
        *("--duration", "4", "--length-scale", "0.05"),
        *("--concurrency", "4", "--json", "--seed", "3"),
    )
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["completed"] > 0
    assert document["max_concurrent_requests"] <= 4
    assert document["request_rate"] is None


def test_a_closed_loop_has_no_rate(server: Any) -> None:
    result = invoke(server, "--concurrency", "3", "--rate", "2")
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == "give at most one of --concurrency and --rate"


def test_a_model_that_the_server_lacks_is_named(server: Any) -> None:
    with pytest.raises(UsageError, match="asked for model huge, found small"):
        run_load(LoadPlan(url=server.url, model="huge"), Console(stderr=True))


def test_a_server_without_models_is_named(server: Any) -> None:
    server.models = []
    with pytest.raises(UsageError, match="found no model"):
        run_load(LoadPlan(url=server.url), Console(stderr=True))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "Connect call failed"),
        ("nowhere", "no address such as http://"),
        ("127.0.0.1:8000", "no address such as http://"),
        ("ftp://x", "no address such as http://"),
        ("http://" + "x" * 300, "encoding with 'idna' codec failed"),
    ],
)
def test_a_server_that_cannot_be_reached_is_named(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"{url}/v1/models: asked for a server, found: {said}"):
        run_load(LoadPlan(url=url), Console(stderr=True))


def test_a_missing_trace_is_an_error_before_anything_is_sent(server: Any, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"absent\.csv"):
        run_load(LoadPlan(url=server.url, source=tmp_path / "absent.csv"), Console(stderr=True))
    assert server.bodies == []


def test_a_trace_is_brought_to_the_rate_and_cut_at_the_duration(trace: Path) -> None:
    arrivals = plan_arrivals(LoadPlan(url="", source=trace, rate_rps=2.0))
    assert (len(arrivals) - 1) / arrivals[-1].at_s == pytest.approx(2.0)
    cut = plan_arrivals(LoadPlan(url="", source=trace, rate_rps=2.0, duration_s=0.9))
    assert cut == arrivals[:2]


def test_a_load_without_requests_is_refused() -> None:
    with pytest.raises(UsageError, match="none due by then"):
        plan_arrivals(LoadPlan(url="", rate_rps=0.001, duration_s=0.01))


def test_a_minute_of_synthetic_load_may_bring_no_request() -> None:
    with pytest.raises(UsageError, match="within 60 s, found none"):
        plan_arrivals(LoadPlan(url="", rate_rps=0.0001))


def test_a_load_that_no_memory_holds_is_refused() -> None:
    for rate_rps, duration_s in ((1e300, 1.0), (1e-9, 1e12)):
        with pytest.raises(UsageError, match="found room for"):
            plan_arrivals(LoadPlan(url="", rate_rps=rate_rps, duration_s=duration_s))
    with pytest.raises(UsageError, match="found room for"):
        poisson(Arrival(0.0, 1, 1), 1e300, 1.0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("option", "value"),
    [("--length-scale", "1e308"), ("--max-prompt", "10000001"), ("--max-output", str(2**70))],
)
def test_lengths_that_no_model_has_are_usage_errors(server: Any, option: str, value: str) -> None:
    result = invoke(server, option, value)
    assert result.exit_code == 2
    assert f"'{option}': {value if value.isdigit() else float(value)} is not in" in result.stderr


@pytest.mark.parametrize("option", ["--seed", "--template-tokens"])
def test_numbers_below_zero_are_usage_errors(server: Any, option: str) -> None:
    result = invoke(server, option, "-1")
    assert result.exit_code == 2
    assert option in result.stderr


def test_a_rate_of_zero_is_a_usage_error(server: Any) -> None:
    result = invoke(server, "--rate", "0")
    assert result.exit_code == 2
    assert "--rate" in result.stderr


def test_help_has_an_example() -> None:
    assert "Example: steppe load" in CliRunner().invoke(load_command, ["--help"]).stdout
