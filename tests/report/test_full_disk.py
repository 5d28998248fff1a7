from __future__ import annotations

import io
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from tests.fixtures.made_run import MadeRun

from steppe.report.closing import summary_panel
from steppe.report.record_folder import Recorder, read_run
from steppe.report.summary import summarise


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Refuse what would make any file longer, as a full disk does: half a line may go in."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_that_do_not_fit_a_full_disk_are_counted(
    tmp_path: Path, made_run: MadeRun, caplog: pytest.LogCaptureFixture
) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.tick(made_run.ticks[0])
        size = (tmp_path / "record.jsonl").stat().st_size
        with files_no_longer_than(size + 9):
            for tick in made_run.ticks[1:4]:
                recorder.tick(tick)
            assert (tmp_path / "record.jsonl").stat().st_size == size
        recorder.tick(made_run.ticks[4])
        recorder.request(made_run.requests[0])
        summary = recorder.finish(made_run.totals, made_run.slo)
    run = read_run(tmp_path)
    assert run.ticks == (made_run.ticks[0], made_run.ticks[4])
    assert run.requests == made_run.requests[:1]
    assert run.summary == summary
    assert (summary["lost_ticks"], summary["lost_requests"], summary["lost_lines"]) == (3, 0, 3)
    assert [line for line in caplog.messages if "lost" in line] == [
        f"{tmp_path}/record.jsonl: lines are lost: File too large"
    ]


def test_tokens_joules_and_requests_of_the_summary_include_what_is_not_on_disk(
    tmp_path: Path, made_run: MadeRun
) -> None:
    whole = summarise(made_run.ticks, made_run.requests, made_run.totals, made_run.slo)
    with Recorder(tmp_path) as recorder:
        for tick in made_run.ticks:
            recorder.tick(tick)
        with files_no_longer_than(300):
            for request in made_run.requests:
                recorder.request(request)
        summary = recorder.finish(made_run.totals, made_run.slo)
    assert summary["lost_requests"] > 0
    for name in ("output_tokens", "prompt_tokens", "output_tokens_per_joule", "requests"):
        assert summary[name] == whole[name]


def test_a_run_whose_disk_stays_full_still_has_a_summary(
    tmp_path: Path, made_run: MadeRun, caplog: pytest.LogCaptureFixture
) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.tick(made_run.ticks[0])
        with files_no_longer_than(300):
            recorder.tick(made_run.ticks[1])
            summary = recorder.finish(made_run.totals, made_run.slo)
    assert summary["energy_j"] == made_run.totals.energy_j
    assert sorted(path.name for path in tmp_path.iterdir()) == ["record.jsonl", "requests.jsonl"]
    assert any("summary.json: cannot be written" in line for line in caplog.messages)


def test_a_run_that_lost_no_line_says_so(tmp_path: Path, made_run: MadeRun) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.tick(made_run.ticks[0])
        recorder.finish(made_run.totals, made_run.slo)
    assert json.loads((tmp_path / "summary.json").read_text())["lost_lines"] == 0


@pytest.mark.parametrize("lost", [0, 1234])
def test_the_end_of_a_run_says_how_many_lines_are_lost(
    tmp_path: Path, made_run: MadeRun, lost: int
) -> None:
    with Recorder(tmp_path) as recorder:
        summary = recorder.finish(made_run.totals, made_run.slo)
    shown = io.StringIO()
    console = Console(width=80, file=shown)
    console.print(summary_panel(summary | {"lost_lines": lost}, tmp_path))
    text = shown.getvalue()
    assert ("1,234 lines of the record could not be written" in text) == bool(lost)
