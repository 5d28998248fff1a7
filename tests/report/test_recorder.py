from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from tests.fixtures.made_run import MadeRun

from steppe.errors import UsageError
from steppe.power.battery import Charge
from steppe.report import record_folder
from steppe.report.record_folder import Recorder, read_run
from steppe.report.records import (
    BatchTick,
    ConfigChangeRecord,
    GpuEvent,
    GridTick,
    RequestRecord,
    ShortageTick,
)
from steppe.report.summary import Summary


class Read(RequestRecord):
    """A request that a weak set can count."""


CHECK_RUN = Path(__file__).parents[3] / "shared" / "tools" / "check_run.py"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, made_run: MadeRun) -> tuple[Path, Summary]:
    folder = tmp_path_factory.mktemp("runs") / "made"
    with Recorder(folder) as recorder:
        for tick in made_run.ticks:
            recorder.tick(tick)
        for request in made_run.requests:
            recorder.request(request)
        return folder, recorder.finish(made_run.totals, made_run.slo)


def test_a_run_reads_back_as_it_was_written(
    recorded: tuple[Path, Summary], made_run: MadeRun
) -> None:
    folder, summary = recorded
    run = read_run(folder)
    assert run.ticks == made_run.ticks
    assert run.requests == made_run.requests
    assert run.summary == summary


def test_a_change_of_the_configuration_is_one_line(tmp_path: Path) -> None:
    change = ConfigChangeRecord(12.5, "slo", "localhost", {"ttft_s": 2.0}, {"ttft_s": 1.0})
    with Recorder(tmp_path / "run") as recorder:
        assert not (tmp_path / "run" / "config_changes.jsonl").exists()
        recorder.config_change(change)
    (line,) = (tmp_path / "run" / "config_changes.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "t_s": 12.5,
        "section": "slo",
        "by": "localhost",
        "before": {"ttft_s": 2.0},
        "after": {"ttft_s": 1.0},
    }


def test_a_tick_is_one_line_with_the_agreed_keys(recorded: tuple[Path, Summary]) -> None:
    line = json.loads((recorded[0] / "record.jsonl").read_text().splitlines()[0])
    keys = "t_s budget_w draw_w supply_w demand_tps output_tps energy_j output_tokens waiting"
    rest = "running engine_queue budget_source shortages battery curtailed_w site_w sources_w"
    rest += " stale node_rest_w node_rest_source bound one_awake_w gpu_events pools"
    rest += " variants batch grid took_s replicas"
    assert list(line) == [*keys.split(), *rest.split()]
    replica_keys = "id state clock_mhz batch_limit draw_w output_tps depth fault conditions pool"
    assert list(line["replicas"][0]) == replica_keys.split()


def test_a_shortage_reads_back_as_it_was_written(tmp_path: Path, made_run: MadeRun) -> None:
    shortages = (ShortageTick("floor", 5.0, 60.0, None), ShortageTick("demand", 40.0, 0.0, 90.0))
    tick = replace(made_run.ticks[0], shortages=shortages)
    with Recorder(tmp_path) as recorder:
        recorder.tick(tick)
    assert read_run(tmp_path).ticks == (tick,)
    line = json.loads((tmp_path / "record.jsonl").read_text())
    assert line["shortages"][0] == {
        "of": "floor",
        "short_w": 5.0,
        "begins_in_s": 60.0,
        "ends_in_s": None,
    }


def test_what_happened_to_gpus_reads_back_as_it_was_written(
    tmp_path: Path, made_run: MadeRun
) -> None:
    first, *others = made_run.ticks[0].replicas
    events = (GpuEvent("GPU-1", "xid", "Xid 79"), GpuEvent("GPU-1", "shared", "x", is_over=True))
    replicas = (replace(first, conditions=("thermal",)), *others)
    tick = replace(made_run.ticks[0], gpu_events=events, replicas=replicas)
    with Recorder(tmp_path) as recorder:
        recorder.tick(tick)
    assert read_run(tmp_path).ticks == (tick,)


def test_a_battery_reads_back_as_it_was_written(tmp_path: Path, made_run: MadeRun) -> None:
    tick = replace(made_run.ticks[0], battery=Charge(0.25, -40.0))
    with Recorder(tmp_path) as recorder:
        recorder.tick(tick)
    assert read_run(tmp_path).ticks == (tick,)
    line = json.loads((tmp_path / "record.jsonl").read_text())
    assert line["battery"] == {"share": 0.25, "power_w": -40.0}


def test_what_the_grid_asked_reads_back_as_it_was_written(
    tmp_path: Path, made_run: MadeRun
) -> None:
    grid = GridTick("openadr/e1", 70.0, "openadr/e1", 70.0, 100.0, 32.0, complies=True)
    tick = replace(made_run.ticks[0], grid=grid)
    with Recorder(tmp_path) as recorder:
        recorder.tick(tick)
    assert read_run(tmp_path).ticks == (tick,)
    line = json.loads((tmp_path / "record.jsonl").read_text())
    assert line["grid"]["limit"] == "openadr/e1"


def test_batch_work_reads_back_as_it_was_written(tmp_path: Path, made_run: MadeRun) -> None:
    batch = BatchTick(1, 9, 900.0, 3, draw_w=20.0, surplus_w=50.0, reason="surplus")
    tick = replace(made_run.ticks[0], batch=batch)
    with Recorder(tmp_path) as recorder:
        recorder.tick(tick)
    assert read_run(tmp_path).ticks == (tick,)


def test_a_record_from_before_shortages_and_batteries_has_none(
    tmp_path: Path, made_run: MadeRun
) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.tick(made_run.ticks[0])
    path = tmp_path / "record.jsonl"
    line = json.loads(path.read_text())
    del line["shortages"], line["battery"]
    path.write_text(json.dumps(line) + "\n")
    assert read_run(tmp_path).ticks == made_run.ticks[:1]


def test_a_request_is_one_line_with_the_agreed_keys(recorded: tuple[Path, Summary]) -> None:
    line = json.loads((recorded[0] / "requests.jsonl").read_text().splitlines()[0])
    keys = (
        "id tenant priority arrival_s ttft_s e2e_s tpot_s prompt_tokens cached_tokens "
        "output_tokens energy_j energy_source finish replica streamed boundary model adapter "
        "continued asked_model gateway site"
    )
    assert list(line) == keys.split()


@pytest.mark.skipif(not CHECK_RUN.is_file(), reason="../shared/tools/check_run.py is absent")
def test_the_record_check_accepts_the_folder(recorded: tuple[Path, Summary]) -> None:
    command = [sys.executable, str(CHECK_RUN), str(recorded[0]), "--knobs"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_line_is_on_disk_before_the_run_ends(tmp_path: Path, made_run: MadeRun) -> None:
    with Recorder(tmp_path / "run") as recorder:
        recorder.tick(made_run.ticks[0])
        recorder.request(made_run.requests[0])
        run = read_run(tmp_path / "run")
    assert run.ticks == made_run.ticks[:1]
    assert run.requests == made_run.requests[:1]
    assert run.summary is None


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path, made_run: MadeRun) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.tick(made_run.ticks[0])
    with (tmp_path / "record.jsonl").open("ab") as file:
        file.write(b'{"t_s":2.0,"budg')
    assert read_run(tmp_path).ticks == made_run.ticks[:1]


def test_requests_are_summed_up_one_by_one(
    tmp_path: Path, made_run: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: WeakSet[Read] = WeakSet()
    at_once = []

    def read(**values: Any) -> Read:
        request = Read(**values)
        alive.add(request)
        at_once.append(len(alive))
        return request

    with Recorder(tmp_path) as recorder:
        for request in made_run.requests:
            recorder.request(request)
        monkeypatch.setattr(record_folder, "RequestRecord", read)
        recorder.finish(made_run.totals, made_run.slo)
    assert len(at_once) == len(made_run.requests)
    assert max(at_once) <= 2


def test_a_full_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="new or empty folder"):
        Recorder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="cannot record here"):
        Recorder(tmp_path / "run")


def test_a_folder_without_a_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"record\.jsonl: No such file"):
        read_run(tmp_path)


@pytest.mark.parametrize("line", ["not json", "[]", '{"t_s": 1}', '{"replicas": [], "odd": 1}'])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "record.jsonl").write_text(f"{line}\n")
    (tmp_path / "requests.jsonl").write_text("")
    with pytest.raises(UsageError, match="line 1"):
        read_run(tmp_path)
