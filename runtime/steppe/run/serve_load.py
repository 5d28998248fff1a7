"""A load test on a server with the joules of its GPUs, from plan to result files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import orjson
from rich.console import Console

from steppe.energy.meter import choose_gpus
from steppe.energy.span import span_error_j
from steppe.energy.window import EnergyReading
from steppe.errors import DeviceError, SteppeError, UsageError
from steppe.load.plan import LoadPlan, run_load
from steppe.load.replay import ClosedLoop
from steppe.load.results import LoadResult
from steppe.load.stream import Completed
from steppe.measure.endpoint_meter import TICK_S, EndpointMeter
from steppe.measure.interchange import write_aiperf
from steppe.measure.provenance import Provenance
from steppe.measure.result_files import SERVE_FILE
from steppe.measure.serving import LoadEnergy, energy_keys, slices_of
from steppe.run.gpu_provenance import provenance_of
from steppe.run.host_meter import metering
from steppe.run.missing_gpus import explaining_missing_gpus


class JouleReader(Protocol):
    """A meter of joules."""

    def read_at(self, at_s: float) -> EnergyReading:
        """Return the energy since the meter began, up to an instant just past."""
        ...


@dataclass(slots=True)
class EnergyLog:
    """Reads a meter periodically while a load runs.

    A reading that fails in between is left out, and the next contains its joules. Without the
    first or the last reading the load has no energy.

    Attributes:
        meter: The meter.
        every_s: Time between two readings, s.
        clock: Returns the time, s.
        readings: The readings.
    """

    meter: JouleReader
    every_s: float
    clock: Callable[[], float] = time.monotonic
    readings: list[EnergyReading] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _end_error: SteppeError | None = None

    def begin(self) -> None:
        """Read from now on, for the load begins; a thread waits for the meter."""
        target = partial(self._read_periodically, self.clock())
        self._thread = threading.Thread(target=target, daemon=True, name="energy-log")
        self._thread.start()

    @contextmanager
    def running(self) -> Generator[None]:
        """Read from `begin`, which is called inside the block, to the block's end."""
        try:
            yield
        finally:
            self._stop.set()
            end_s = self.clock()
            if self._thread is not None:
                self._thread.join()
                try:
                    self._read(end_s)
                except SteppeError as error:  # the clients' results must not be lost for it
                    self._end_error = error

    def energy(self, result: LoadResult) -> LoadEnergy:
        """Return the energy of the load, with the output tokens of each slice.

        Raises:
            DeviceError: The meter gave no reading when the load began or when it ended.
        """
        if self._end_error is not None:
            raise DeviceError(
                f"asked for the energy of a load, found none at its end: {self._end_error}"
            ) from self._end_error
        if len(self.readings) < 2:
            raise DeviceError("asked for the energy of a load, found no reading at its beginning")
        first, last = self.readings[0], self.readings[-1]
        answers = [r.outcome for r in result.requests if isinstance(r.outcome, Completed)]
        tokens = [(a.first_s, a.last_s, a.output_tokens) for a in answers]
        energy_at = [(r.time_s - first.time_s, r.energy_j - first.energy_j) for r in self.readings]
        error_j = span_error_j((r.error_j, r.quality) for r in self.readings[1:])
        return LoadEnergy(last.energy_j - first.energy_j, error_j, slices_of(energy_at, tokens))

    def _read_periodically(self, begin_s: float) -> None:
        with suppress(SteppeError):
            self._read(begin_s)
        # Without the first reading no other counts.
        while self.readings and not self._stop.wait(self.every_s):
            now_s = self.clock()
            if not self._stop.is_set():  # the last reading must be the latest
                with suppress(SteppeError):
                    self._read(now_s)

    def _read(self, at_s: float) -> None:
        self.readings.append(self.meter.read_at(at_s))


@dataclass(frozen=True, slots=True)
class LoadMeasurement:
    """A load test that has ended.

    Attributes:
        document: The whole result: vLLM's keys, AIPerf's energy keys, slices, and provenance.
        result: Results of the clients.
        meter_error: Why there is no energy although it was to be metered; None if there is.
    """

    document: dict[str, Any]
    result: LoadResult
    meter_error: DeviceError | None


def measure_load(
    plan: LoadPlan, meter: str, gpus: Sequence[int], slice_s: float, console: Console
) -> LoadMeasurement:
    """Run a load test and meter the server's GPUs meanwhile.

    Args:
        plan: The load.
        meter: `gpu`: counters of GPUs here; `endpoint`: the counter that a Steppe gateway
            publishes; `none`.
        gpus: NVML indices of the server's GPUs; all if empty.
        slice_s: Time between two readings, s.
        console: Takes the progress.

    Raises:
        UsageError: The server cannot be reached, lacks the model or publishes no joules; a GPU is
            not here; or the plan has no requests.
        BackendUnavailableError: This host has no GPU driver.
    """
    with metered(plan, meter, gpus) as (reader, provenance):
        log = None if reader is None else EnergyLog(reader, slice_s)
        if log is not None:
            plan = replace(plan, replay=replace(plan.replay, on_begin=log.begin))
        with nullcontext() if log is None else log.running():
            result = run_load(plan, console)
    energy: LoadEnergy | None = None
    meter_error: DeviceError | None = None
    if log is not None:
        try:
            energy = log.energy(result)
        except DeviceError as error:
            meter_error = error
    return LoadMeasurement(_document(plan, result, energy, provenance), result, meter_error)


@contextmanager
def metered(
    plan: LoadPlan, meter: str, gpus: Sequence[int]
) -> Generator[tuple[JouleReader | None, Provenance]]:
    """Yield the meter and the provenance of a load; see `measure_load`."""
    model, url, seed = plan.model or "", plan.url, plan.seed
    bare = provenance_of((), model, url, seed)
    match meter:
        case "none":
            yield None, replace(bare, energy_source="none", meter="none", boundary="none")
        case "endpoint":
            endpoint = EndpointMeter(url)
            source = replace(
                bare,
                energy_source=endpoint.source,
                meter="counter",
                boundary=endpoint.boundary,
            )
            yield endpoint, replace(source, counter_period_s=TICK_S)
        case _:
            with explaining_missing_gpus("--meter endpoint and --meter none need none"):
                opened = choose_gpus(gpus)
            with metering(opened) as total:
                yield total, provenance_of(opened, model, url, seed)


def _document(
    plan: LoadPlan, result: LoadResult, energy: LoadEnergy | None, provenance: Provenance
) -> dict[str, Any]:
    summary = result.summary(plan.slo)
    pacing = plan.replay.pacing
    users = pacing.concurrency if isinstance(pacing, ClosedLoop) else None
    return {
        "url": plan.url,
        "model": result.model,
        "loop": "open" if users is None else "closed",
        "max_concurrency": users,
        "request_rate": plan.rate_rps,
        "seed": plan.seed,
        "prompt_seed": plan.replay.seed,
        "slo": asdict(plan.slo),
        **summary,
        **energy_keys(summary, energy, users),
        "slices": [] if energy is None else [asdict(piece) for piece in energy.slices],
        "provenance": asdict(replace(provenance, model=result.model)),
    }


def write_load(out: Path, measurement: LoadMeasurement) -> None:
    """Write the result and AIPerf's exports in a folder.

    Raises:
        UsageError: They cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        indented = orjson.dumps(measurement.document, option=orjson.OPT_INDENT_2)
        (out / SERVE_FILE).write_bytes(indented + b"\n")
        write_aiperf(out, measurement.result, measurement.document)
    except OSError as error:
        raise UsageError(f"{out}: cannot write results: {error.strerror}") from error
