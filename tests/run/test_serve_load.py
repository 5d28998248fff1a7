"""The joules of a load, from where its time begins to its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from steppe.cli.bench_serve import serve_command
from steppe.energy.window import EnergyReading, Quality
from steppe.errors import DeviceError, UsageError
from steppe.load import plan as load_plan
from steppe.load.arrivals import Arrival
from steppe.load.plan import LoadPlan, plan_arrivals, run_load
from steppe.load.replay import ClosedLoop, ReplayOptions
from steppe.load.results import LoadResult
from steppe.measure.interchange import AIPERF_RECORDS
from steppe.measure.provenance import Provenance
from steppe.measure.result_files import SERVE_FILE
from steppe.run import serve_load
from steppe.run.serve_load import EnergyLog


class FakeMeter:
    def __init__(self) -> None:
        self.joules = 0.0

    def read_at(self, at_s: float) -> EnergyReading:
        self.joules += 50.0
        return EnergyReading(at_s, self.joules, 0.5, Quality.COUNTER)


def test_the_energy_of_a_load_is_that_between_the_first_and_the_last_reading(
    url: str,
) -> None:
    log = EnergyLog(FakeMeter(), every_s=0.02)
    arrivals = (Arrival(0.0, 4, 20),) * 6
    options = ReplayOptions(pacing=ClosedLoop(3), on_begin=log.begin)
    plan = LoadPlan(url=url, source=arrivals, replay=options)
    with log.running():
        result = run_load(plan, Console(quiet=True))
    energy = log.energy(result)
    assert energy.energy_j == 50.0 * (len(log.readings) - 1)
    assert energy.error_j == 0.5 * min(2, len(log.readings) - 1)
    assert sum(piece.output_tokens for piece in energy.slices) == pytest.approx(120)


class SteadyMeter:
    def read_at(self, at_s: float) -> EnergyReading:
        return EnergyReading(at_s, 50.0 * at_s, 0.5, Quality.COUNTER)


def test_energy_before_a_load_begins_is_left_out() -> None:
    now = [0.0]
    log = EnergyLog(SteadyMeter(), every_s=1000.0, clock=lambda: now[0])
    with log.running():
        now[0] = 10.0
        log.begin()
        now[0] = 14.0
    assert [cut.time_s for cut in log.readings] == [10.0, 14.0]
    assert log.energy(LoadResult("m", 0.0, 4.0, 0, ())).energy_j == 50.0 * 4.0


def test_metering_starts_when_the_arrivals_are_ready(
    url: str, provenance: Provenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready_s: list[float] = []
    asked_s: list[float] = []

    class Meter(SteadyMeter):
        def read_at(self, at_s: float) -> EnergyReading:
            asked_s.append(at_s)
            return super().read_at(at_s)

    def prepare(plan: LoadPlan) -> tuple[Arrival, ...]:
        arrivals = plan_arrivals(plan)
        ready_s.append(time.monotonic())
        return arrivals

    monkeypatch.setattr(serve_load, "metered", lambda *_: nullcontext((Meter(), provenance)))
    monkeypatch.setattr(load_plan, "plan_arrivals", prepare)
    options = ("--concurrency", "2", "--requests", "4", "--prompt", "3", "--output", "3", "--json")
    document = json.loads(CliRunner().invoke(serve_command, ["--url", url, *options]).stdout)
    assert min(asked_s) > ready_s[0]
    assert document["total_gpu_energy"] == pytest.approx(50 * (max(asked_s) - min(asked_s)))


def test_exported_requests_begin_when_the_arrivals_were_ready(
    bench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ready_s: list[float] = []

    def prepare(plan: LoadPlan) -> tuple[Arrival, ...]:
        time.sleep(0.5)  # as a long trace takes to read
        ready_s.append(time.time())
        return plan_arrivals(plan)

    monkeypatch.setattr(load_plan, "plan_arrivals", prepare)
    bench(SteadyMeter(), "--out", str(tmp_path / "new"))
    lines = (tmp_path / "new" / AIPERF_RECORDS).read_text().splitlines()
    begun_s = [json.loads(line)["metadata"]["request_start_ns"] / 1e9 for line in lines]
    assert ready_s[0] < min(begun_s) <= max(begun_s) < time.time()


class BusyMeter(SteadyMeter):
    """Refuses some of its readings, as a gateway does that is busy or starts anew."""

    def __init__(self, *refused: int) -> None:
        self.refused, self.calls = refused, 0

    def read_at(self, at_s: float) -> EnergyReading:
        self.calls += 1
        if self.calls in self.refused:
            raise UsageError("no answer")
        return super().read_at(at_s)


def test_a_reading_that_fails_during_a_load_is_left_out() -> None:
    log = EnergyLog(meter := BusyMeter(2, 3), every_s=0.01)
    with log.running():
        log.begin()
        _wait_for(lambda: meter.calls > 4)
    assert len(log.readings) == meter.calls - 2
    span_s = log.readings[-1].time_s - log.readings[0].time_s
    assert log.energy(LoadResult("m", 0.0, span_s, 0, ())).energy_j == pytest.approx(50 * span_s)


def test_a_load_whose_first_reading_fails_has_no_energy() -> None:
    log = EnergyLog(meter := BusyMeter(1), every_s=0.01)
    with log.running():
        log.begin()
        _wait_for(lambda: meter.calls > 0)
    with pytest.raises(DeviceError, match="no reading at its beginning"):
        log.energy(LoadResult("m", 0.0, 1.0, 0, ()))


@pytest.fixture
def bench(
    url: str, provenance: Provenance, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Return a function that puts two requests on a server under some meter."""
    two = ["--concurrency", "1", "--requests", "2", "--prompt", "3", "--output", "3"]

    def run(meter: SteadyMeter, *options: str) -> Result:
        metered = nullcontext((meter, provenance))
        monkeypatch.setattr(serve_load, "metered", lambda *_: metered)
        return CliRunner().invoke(serve_command, ["--url", url, *two, *options])

    return run


@pytest.mark.parametrize(("refused", "when"), [(1, "beginning"), (2, "end")])
def test_a_load_whose_meter_fails_keeps_the_results_of_its_clients(
    refused: int, when: str, bench: Callable[..., Result], tmp_path: Path
) -> None:
    new = tmp_path / "new"
    result = bench(BusyMeter(refused), "--slice", "100", "--out", str(new), "--json")
    assert isinstance(result.exception, DeviceError)
    assert f"at its {when}" in str(result.exception)
    document = json.loads(result.stdout)
    assert document == json.loads((new / SERVE_FILE).read_text())
    assert (document["completed"], document["total_gpu_energy"]) == (2, None)


def _wait_for(happened: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 5.0
    while not happened():
        assert time.monotonic() < deadline_s, "it did not happen within 5 s"
        time.sleep(0.001)


def test_a_load_without_a_reading_at_its_beginning_has_no_energy() -> None:
    log = EnergyLog(SteadyMeter(), every_s=1000.0)
    with log.running():
        pass
    with pytest.raises(DeviceError, match="no reading at its beginning"):
        log.energy(LoadResult("m", 0.0, 4.0, 0, ()))
