from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.fixtures.openai_server import FakeOpenAI

from steppe.cli.load import load_command
from steppe.errors import UsageError

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


def invoke(server: FakeOpenAI, *arguments: str) -> Result:
    return CliRunner().invoke(load_command, ["--url", server.url, *arguments])


def test_json_output_is_one_document_and_requests_go_to_their_file(
    server: FakeOpenAI, trace: Path, tmp_path: Path
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


def test_an_existing_requests_file_is_not_overwritten(server: FakeOpenAI, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("mine")
    result = invoke(server, "--requests", str(rows))
    assert isinstance(result.exception, UsageError)
    assert rows.read_text() == "mine"
    assert server.bodies == []


def test_the_default_output_is_a_table(server: FakeOpenAI, trace: Path) -> None:
    result = invoke(server, "--trace", str(trace), "--rate", "50")
    assert result.exit_code == 0
    assert "output tokens/s" in result.stdout
    assert "TTFT" in result.stdout


def test_a_failed_request_makes_the_exit_code_one(server: FakeOpenAI, trace: Path) -> None:
    server.refusals = [(500, {})]
    result = invoke(server, "--trace", str(trace), "--rate", "50", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["failed"] == 1


def test_a_request_that_was_never_sent_makes_the_exit_code_one(
    server: FakeOpenAI, trace: Path
) -> None:
    result = invoke(server, "--trace", str(trace), "--rate", "0.01", "--deadline", "0.3", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["completed"], document["not_sent"]) == (1, 2)
    assert document["slo_attainment"] == 1.0


def test_a_closed_loop_sends_requests_for_the_given_duration(
    server: FakeOpenAI, trace: Path
) -> None:
    options = ("--trace", str(trace), "--concurrency", "4", "--duration", "0.5", "--json")
    result = invoke(server, *options)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["completed"] > 3
    assert document["duration"] >= 0.5
    assert document["max_concurrent_requests"] == 4
    assert document["request_rate"] is None


def test_a_rate_with_a_closed_loop_is_a_usage_error(server: FakeOpenAI) -> None:
    result = invoke(server, "--concurrency", "3", "--rate", "2")
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == "give at most one of --concurrency and --rate"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--length-scale", "1e308"), ("--max-prompt", "10000001"), ("--max-output", str(2**70))],
)
def test_lengths_that_no_model_has_are_usage_errors(
    server: FakeOpenAI, option: str, value: str
) -> None:
    result = invoke(server, option, value)
    assert result.exit_code == 2
    assert f"'{option}': {value if value.isdigit() else float(value)} is not in" in result.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--seed", "-1"), ("--template-tokens", "-1"), ("--rate", "0")]
)
def test_numbers_out_of_range_are_usage_errors(server: FakeOpenAI, option: str, value: str) -> None:
    result = invoke(server, option, value)
    assert result.exit_code == 2
    assert option in result.stderr


def test_a_traffic_and_its_changes_are_sent(server: FakeOpenAI, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    options = ("--traffic", "flooding_tenant", "--traffic-change", "1:embeddings:30")
    scale = ("--length-scale", "0.05", "--rate", "30", "--duration", "2")
    result = invoke(server, *options, *scale, "--requests", str(rows), "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["trace"], document["traffic"]) == ("synthetic", "flooding_tenant")
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    late = [row for row in written if row["arrival_s"] >= 1]
    assert late
    assert {row["output_tokens"] for row in late} == {1}
    assert "flood" in {row["tenant"] for row in written}


@pytest.mark.parametrize("change", ["60", "60:chat", "0:summaries", "60:summaries:-1", "a:b:c:d"])
def test_a_change_of_traffic_that_cannot_be_read_is_a_usage_error(
    server: FakeOpenAI, change: str
) -> None:
    result = invoke(server, "--traffic-change", change)
    assert result.exit_code == 2
    assert "at_s:traffic[:rate]" in result.stderr


def test_changes_of_traffic_out_of_order_are_a_usage_error(server: FakeOpenAI) -> None:
    changes = ("--traffic-change", "9:summaries", "--traffic-change", "5:agents")
    result = invoke(server, *changes)
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == "--traffic-change: asked for rising times, found [9.0, 5.0]"


def test_a_traffic_with_a_trace_file_is_a_usage_error(server: FakeOpenAI, trace: Path) -> None:
    result = invoke(server, "--trace", str(trace), "--traffic", "summaries")
    assert isinstance(result.exception, UsageError)
    assert "give --traffic with --trace synthetic" in str(result.exception)


def test_help_has_an_example() -> None:
    assert "Example: steppe load" in CliRunner().invoke(load_command, ["--help"]).stdout
