from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.fixtures.batch_gateway import FakeGateway, answer_with, in_a_thread, refusal

from steppe.batch.local.folder import open_folder
from steppe.cli import main


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with in_a_thread(FakeGateway()) as running:
        yield running


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", *[f"text {number}" for number in range(30)])


def write_rows(path: Path, *texts: str) -> Path:
    lines = [{"custom_id": text, "messages": [{"role": "user", "content": text}]} for text in texts]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def steppe(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["batch", *map(str, arguments)])


def run(gateway: FakeGateway, rows: Path, *more: object) -> Result:
    return steppe("run", rows, "-o", rows.with_name("out.jsonl"), "--url", gateway.url, *more)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def ids(path: Path) -> list[str]:
    return [line["custom_id"] for line in lines_of(path)]


def texts(count: int, first: int = 0) -> list[str]:
    return [f"text {number}" for number in range(first, count)]


def test_every_row_has_a_line_and_the_end_says_what_it_took(
    gateway: FakeGateway, rows: Path
) -> None:
    result = run(gateway, rows)
    assert (result.exit_code, result.stderr) == (0, "")
    output = rows.with_name("out.jsonl")
    assert sorted(ids(output)) == sorted(texts(30))
    assert f"completed: 30 rows in {output}; 90 tokens, 60.0 J, emulated" in result.stdout
    line = lines_of(output)[0]
    assert line["response"]["body"]["model"] == "m"
    assert line["steppe"]["energy_j"] == 2.0
    assert rows.with_name("out.errors.jsonl").read_bytes() == b""


def test_the_json_document_has_the_job_its_rows_tokens_and_joules(
    gateway: FakeGateway, rows: Path
) -> None:
    found = json.loads(run(gateway, rows, "--json").stdout)
    assert found["state"] == "completed"
    assert found["rows"] == {"total": 30, "completed": 30, "failed": 0, "left": 0}
    assert (found["output_tokens"], found["energy_j"], found["wasted_j"]) == (90, 60.0, 0.0)
    assert (found["output_tokens_per_joule"], found["energy_source"]) == (1.5, "emulated")
    status = json.loads(steppe("status", found["folder"], "--json").stdout)
    assert status == found


def test_a_bad_row_and_a_torn_line_are_errors_and_the_exit_code_is_0(
    gateway: FakeGateway, rows: Path
) -> None:
    gateway.answers["text 3"] = [answer_with(lambda: refusal(400, "invalid_value"))]
    with rows.open("a") as file:
        file.write('{"messages": [{"ro\n')
    result = run(gateway, rows)
    assert result.exit_code == 0
    errors = lines_of(rows.with_name("out.errors.jsonl"))
    assert {each["custom_id"] for each in errors} == {"text 3", "row-30"}
    assert f"2 errors in {rows.with_name('out.errors.jsonl')}" in result.stdout
    assert len(ids(rows.with_name("out.jsonl"))) == 29


def test_answers_come_in_the_order_of_the_input_on_request(
    gateway: FakeGateway, rows: Path
) -> None:
    assert run(gateway, rows, "--in-order", "--outstanding", 7).exit_code == 0
    assert ids(rows.with_name("out.jsonl")) == texts(30)


def test_an_output_may_be_compressed(gateway: FakeGateway, rows: Path) -> None:
    output = rows.with_name("out.jsonl.gz")
    assert steppe("run", rows, "-o", output, "--url", gateway.url).exit_code == 0
    lines = gzip.decompress(output.read_bytes()).splitlines()
    assert {json.loads(line)["custom_id"] for line in lines} == set(texts(30))
    assert rows.with_name("out.errors.jsonl.gz").exists()


def test_options_become_parameters_of_the_requests(gateway: FakeGateway, tmp_path: Path) -> None:
    table, schema = tmp_path / "in.csv", tmp_path / "schema.json"
    table.write_text("name,body\na,first\nb,second\n")
    schema.write_text('{"type": "object"}')
    bodies: list[dict[str, Any]] = []

    async def note(request: Any, body: dict[str, Any]) -> Any:
        bodies.append(body)
        return refusal(400, "seen")

    gateway.every = note
    options = ["--template", "Summarize {{ body }}", "--id-column", "name", "--max-tokens", 9]
    options += ["--temperature", 0, "--param", "top_k=20", "--schema", schema, "--system", "S"]
    assert run(gateway, table, *options).exit_code == 0
    (body, _) = sorted(bodies, key=lambda each: str(each["messages"]))
    assert [message["content"] for message in body["messages"]] == ["S", "Summarize first"]
    assert (body["max_tokens"], body["temperature"], body["top_k"]) == (9, 0.0, 20)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert sorted(ids(tmp_path / "out.errors.jsonl")) == ["a", "b"]


def test_a_finished_job_is_not_run_again(gateway: FakeGateway, rows: Path) -> None:
    assert run(gateway, rows).exit_code == 0
    again = run(gateway, rows)
    folder = rows.with_name("out.jsonl.job")
    assert again.exit_code == 2
    assert again.stderr == (
        f"steppe: {rows.with_name('out.jsonl')}: asked for a new job, found {folder}; "
        f"`steppe batch resume {folder}` goes on with it\n"
    )
    assert steppe("resume", folder, "--url", gateway.url).exit_code == 0
    assert sum(gateway.seen.values()) == 30


def test_a_job_that_the_gateway_refused_goes_on_where_it_was(
    gateway: FakeGateway, rows: Path
) -> None:
    gateway.answers["text 29"] = [answer_with(lambda: refusal(401, "invalid_api_key"))]
    result = run(gateway, rows, "--outstanding", 1, "--by-input")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "the gateway answers 401" in result.stderr
    folder = rows.with_name("out.jsonl.job")
    shown = steppe("status", folder)
    assert "29 of 30 done, 0 errors" in shown.stdout
    assert steppe("resume", folder, "--url", gateway.url).exit_code == 0
    assert sorted(ids(rows.with_name("out.jsonl"))) == sorted(texts(30))
    assert set(gateway.seen.values()) == {1, 2}
    assert gateway.seen["text 29"] == 2


def stop_after_first(gateway: FakeGateway, rows: Path) -> Path:
    """Run a job that stops with one row left, and return its folder."""
    gateway.answers["text 29"] = [answer_with(lambda: refusal(401, "invalid_api_key"))]
    assert run(gateway, rows, "--outstanding", 1, "--by-input").exit_code == 1
    return rows.with_name("out.jsonl.job")


def test_a_changed_input_is_refused_in_one_line(gateway: FakeGateway, rows: Path) -> None:
    folder = stop_after_first(gateway, rows)
    write_rows(rows, *texts(29), "another")
    result = steppe("resume", folder, "--url", gateway.url)
    assert result.exit_code == 2
    assert f"{rows}: asked to go on with it, found it changed; --changed runs" in result.stderr


def test_of_a_changed_input_only_what_changed_runs_again(gateway: FakeGateway, rows: Path) -> None:
    folder = stop_after_first(gateway, rows)
    write_rows(rows, *texts(29), "another")
    before = sum(gateway.seen.values())
    result = steppe("resume", folder, "--url", gateway.url, "--changed")
    assert result.exit_code == 0, result.stderr
    assert sum(gateway.seen.values()) == before + 1
    assert gateway.seen["another"] == 1
    assert sorted(ids(rows.with_name("out.jsonl"))) == sorted([*texts(29), "another"])


def test_a_second_run_of_a_job_is_refused_in_one_line(gateway: FakeGateway, rows: Path) -> None:
    folder = stop_after_first(gateway, rows)
    with open_folder(folder) as running, running.locked():
        result = steppe("resume", folder, "--url", gateway.url)
        shown = steppe("status", folder)
    assert (result.exit_code, result.stderr) == (
        2,
        f"steppe: {folder}: asked to run the job, found another process that runs it\n",
    )
    assert "in_progress, running now" in shown.stdout


def test_a_cancelled_job_keeps_its_answers_and_the_rest_are_errors(
    gateway: FakeGateway, rows: Path
) -> None:
    folder = stop_after_first(gateway, rows)
    result = steppe("cancel", folder)
    assert (result.exit_code, "cancelled, not running now" in result.stdout) == (0, True)
    assert sorted(ids(rows.with_name("out.jsonl"))) == sorted(texts(29))
    (error,) = lines_of(rows.with_name("out.errors.jsonl"))
    assert (error["custom_id"], error["error"]["code"]) == ("text 29", "batch_cancelled")
    again = steppe("cancel", folder)
    assert (again.exit_code, again.stderr) == (
        2,
        f"steppe: {folder}: asked to cancel a job, found it cancelled\n",
    )


def test_a_dry_run_says_what_all_rows_take_and_leaves_nothing(
    gateway: FakeGateway, rows: Path
) -> None:
    found = json.loads(run(gateway, rows, "--dry-run", "--sample", 10, "--json").stdout)
    assert (found["rows"], found["sample"]["rows"]) == (30, 10)
    assert found["energy_j"] == {"value": 60.0, "low": 60.0, "high": 60.0}
    assert found["output_tokens"]["value"] == 90
    assert sum(gateway.seen.values()) == 10
    assert [path.name for path in rows.parent.iterdir()] == ["in.jsonl"]
    shown = run(gateway, rows, "--dry-run", "--sample", 10)
    assert "60.0 J (60.0 J to 60.0 J), emulated (modelled, not measured)" in shown.stdout


def test_a_report_is_written_beside_the_store(gateway: FakeGateway, rows: Path) -> None:
    assert run(gateway, rows).exit_code == 0
    folder = rows.with_name("out.jsonl.job")
    result = steppe("report", folder)
    assert (result.exit_code, result.stdout) == (0, f"wrote {folder / 'report.html'}\n")
    assert "<html" in (folder / "report.html").read_text()
    document = json.loads(steppe("report", folder, "--json").stdout)
    assert document == json.loads((folder / "report.json").read_text()) | {
        key: document[key] for key in document if key not in ("rows",)
    }


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "no.jsonl", "-o", "o", "--url", "URL"], "no.jsonl: asked for an input, found no"),
        (["run", "in.jsonl", "-o", "o"], "asked for one of --config and --url, found both or none"),
        (
            ["run", "in.jsonl", "-o", "o", "--url", "URL", "--model", "x"],
            "asked for model x, found m",
        ),
        (
            ["run", "in.jsonl", "-o", "o", "--url", "http://127.0.0.1:9"],
            "asked for a server, found",
        ),
        (["run", "in.jsonl", "-o", "o", "--url", "URL", "--deadline", "soon"], "--deadline"),
        (["run", "in.jsonl", "-o", "in.jsonl", "--url", "URL"], "asked for a new file, found one"),
        (["resume", "o.job", "--url", "URL"], "asked for the folder of a job"),
        (["status", "o.job"], "asked for the folder of a job"),
        (["submit", "in.jsonl"], "asked for --url with a gateway, found none"),
        (["run", "in.jsonl", "-o", "o", "--url", "URL", "--key-file", "k"], "k: asked for a file"),
        (["run", "in.jsonl", "-o", "o", "--url", "URL", "--schema", "s"], "s: asked for a file"),
        (
            ["run", "empty.jsonl", "-o", "o", "--url", "URL"],
            "empty.jsonl: asked for rows, found none",
        ),
        (
            ["run", "in.jsonl", "-o", "o", "--config", "c", "--dry-run"],
            "--dry-run: asked for --url",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    gateway: FakeGateway,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    named: str,
) -> None:
    monkeypatch.chdir(rows.parent)
    (rows.parent / "empty.jsonl").write_text("")
    result = steppe(*[gateway.url if each == "URL" else each for each in arguments])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert named in result.stderr
    assert not (rows.parent / "o.job").exists()
