"""What does a live fleet do when a part of it dies, hangs, or gets nonsense?

One case at a time on a fleet of two replicas on emulated GPUs (see `fault_fleet.py`), synthetic
ones or vLLM with a small model, with clients that stream all the time. At the fault the supply
falls, so that an uncontrolled fleet would be seen: the true draw of the GPUs must be within the
budget again after 5 s. Then the supply rises again. A run that cannot go on must end by itself with
an exit code. In the end the books are checked and what is left behind is counted. Energy is
emulated; time is real.

    python bench/faults.py --case "replica SIGKILL"
    python bench/faults.py --out bench/results/faults.json
    python bench/faults.py --engine vllm --out bench/results/faults_vllm.json

With `--out`, cases replace those of the same name in the file, so that they can be run one by one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from fault_fleet import (
    ENGINE,
    FULL_W,
    LOW_W,
    START_S,
    SYNTHETIC,
    Clients,
    Engine,
    Fleet,
    Signal,
    Witness,
    free_port,
    make_config,
    vllm_engine,
    wait_until,
)
from fault_table import books_of, document, show
from steppe.fleet.node.engine_watch import is_stopped
from steppe.models.tiny_model import write_tiny_model

OBEYED_SHARE = 1.05
"""The draw obeys a budget within this share of it."""
HOLD_S = 8.0
"""How long the low supply lasts, s."""
OPEN_S = 15.0
"""Longest wait for the streams of a run that has ended, s."""
SERVED = 12
"""A fleet serves once so many streams have completed."""
RECOVERY_S = 150.0
"""Longest wait for a fleet to serve whole again, or to end by itself, s."""
ENDED_S = 25.0
"""Longest wait for the end of a run after Ctrl-C, and for what it left to go away, s."""

CONTINUED = "steppe_gateway_continued_streams_total"
TITLES = {
    "engine": ENGINE,
    "replica": "ray::ReplicaActor",
    "controller": "ray::Controller",
    "gateway": "ray::GatewayActor",
    "node actor": "ray::Node",
    "raylet": "raylet",
    "GCS": "gcs_server",
}
"""The processes of a run, by the begin of their title or the end of their path. The synthetic
engine lives in the process of its replica."""


@dataclass
class Scene:
    """A fleet under load, its signal, and the true draw of its GPUs."""

    folder: Path
    fleet: Fleet
    signal: Signal
    witness: Witness
    clients: Clients
    started_s: float
    disk_is_full: bool = False
    struck: int = 0
    engines: int = 0
    """Processes of engines in the whole fleet."""


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        name: Its name.
        strike: Brings it about.
        low_w: Budget that holds from the fault on, W.
        undo: Ends it before the supply rises; nothing by default.
        options: Options of `steppe serve` for its fleet.
        sections: Sections of the config of its fleet.
    """

    name: str
    strike: Callable[[Scene], None]
    low_w: float = LOW_W
    undo: Callable[[Scene], None] = lambda _: None
    options: tuple[str, ...] = ()
    sections: dict[str, Any] = field(default_factory=dict)

    def shares_fleet_with(self, other: Case) -> bool:
        """Whether both are for fleets that were started alike."""
        return (self.options, self.sections) == (other.options, other.sections)


def _send(what: str, number: signal.Signals) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        scene.signal.set(LOW_W)
        fleet = scene.fleet
        scene.struck = fleet.driver() if what == "driver" else fleet.pids(TITLES[what])[0]
        os.kill(scene.struck, number)

    return strike


def _continue(scene: Scene) -> None:
    """Let a process go on that was stopped."""
    os.kill(scene.struck, signal.SIGCONT)


def _write(text: str) -> Callable[[Scene], None]:
    return lambda scene: scene.signal.write(text)


def _let_it_age(scene: Scene) -> None:
    scene.signal.is_kept = False


def _delete(scene: Scene) -> None:
    scene.signal.is_kept = False
    scene.signal.path.unlink()


def _fill_disk(scene: Scene) -> None:
    """Let no file of the driver grow any more, as on a full disk."""
    size = (scene.fleet.record / "record.jsonl").stat().st_size + 100
    scene.signal.set(LOW_W)
    scene.disk_is_full = True
    resource.prlimit(scene.fleet.process.pid, resource.RLIMIT_FSIZE, (size, -1))


def _free_disk(scene: Scene) -> None:
    scene.disk_is_full = False
    resource.prlimit(scene.fleet.process.pid, resource.RLIMIT_FSIZE, (-1, -1))


def _restore(scene: Scene) -> None:
    scene.signal.set(LOW_W)


KILL, STOP = signal.SIGKILL, signal.SIGSTOP
GOES_ON = {"ray": {"restart_gcs": True}}
ENGINE_CASES = tuple(
    Case(f"engine {number.name}", _send("engine", number)) for number in (KILL, STOP)
)
"""For engines in a process of their own."""
CASES = (
    *(
        Case(f"{what} {number.name}", _send(what, number))
        for what in ("replica", "controller", "gateway", "node actor")
        for number in (KILL, STOP)
    ),
    Case("replica SIGSTOP for 8 s", _send("replica", STOP), undo=_continue),
    Case("driver SIGSTOP for 8 s", _send("driver", STOP), undo=_continue),
    Case("signal garbage", _write("many watts\n"), undo=_restore),
    Case("signal stale", _let_it_age, undo=_restore),
    Case("signal deleted", _delete, undo=_restore),
    Case("budget to zero", _write("0\n"), low_w=0.0),
    Case("disk full", _fill_disk, undo=_free_disk),
    Case("raylet SIGKILL", _send("raylet", KILL)),
    Case("GCS SIGKILL", _send("GCS", KILL)),
    Case("raylet SIGSTOP", _send("raylet", STOP)),
    Case("GCS SIGSTOP", _send("GCS", STOP)),
    Case("driver SIGKILL", _send("driver", KILL)),
    Case("driver SIGKILL with a standby", _send("driver", KILL), options=("--standby",)),
    Case("GCS SIGKILL with restart_gcs", _send("GCS", KILL), sections=GOES_ON),
    Case("GCS SIGSTOP with restart_gcs", _send("GCS", STOP), sections=GOES_ON),
)


def run_cases(
    cases: Sequence[Case], engine: Engine, within_s: float, keep_logs: bool
) -> Generator[dict[str, Any]]:
    """Run faults one after the other; return what came of each.

    Those that a fleet survives share one if it was started alike, so that its books contain
    several; the end of a fleet is part of the row of each of its cases. No case begins after
    `within_s`.
    """
    left, give_up_s = list(cases), time.monotonic() + within_s
    while left and time.monotonic() < give_up_s:
        with tempfile.TemporaryDirectory(prefix="steppe-faults-") as name:
            rows: list[dict[str, Any]] = []
            folder, port = Path(name), free_port()
            signal_, first = Signal(folder / "watts"), left[0]
            config = make_config(folder, port, **engine.sections, **first.sections)
            fleet = Fleet.start(folder, config, port, *first.options)
            try:
                scene = _open(folder, fleet, signal_, engine)
                while left and left[0].shares_fleet_with(first):
                    if fleet.process.poll() is not None or time.monotonic() > give_up_s:
                        break
                    rows.append({"engine": engine.kind} | _play(left.pop(0), scene))
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                end = _end(scene)
            finally:
                signal_.stop()
                fleet.clean()
                if keep_logs:
                    print(_end_of(folder / "log"), file=sys.stderr)
            together = [row["case"] for row in rows]
            yield from (row | end | {"fleet_of": together} for row in rows)


def _end_of(log: Path) -> str:
    """Return the last lines of a log without its ticks."""
    lines = [line for line in log.read_text().splitlines() if "  supply " not in line]
    return "\n".join(lines[-60:])


def _open(folder: Path, fleet: Fleet, signal_: Signal, engine: Engine) -> Scene:
    """Wait until a fleet serves its clients with both replicas."""
    started_s = wait_until(fleet.ticks, START_S)
    if math.isnan(started_s):
        raise SystemExit(f"the fleet does not start: {_end_of(fleet.log)}")
    clients = Clients(fleet.url, engine.clients, engine.output_tokens)
    scene = Scene(folder, fleet, signal_, Witness(fleet.process.pid), clients, started_s)
    scene.clients.start()
    return scene


def _play(case: Case, scene: Scene) -> dict[str, Any]:
    """Bring a fault about in a fleet that serves with both replicas."""
    fleet, begun_s = scene.fleet, time.monotonic()
    scene.signal.set(FULL_W)
    served_s = wait_until(
        lambda: fleet.is_whole() and scene.clients.completed(begun_s) >= SERVED, START_S
    )
    if math.isnan(served_s):
        raise SystemExit(f"{case.name}: the fleet does not serve: {_end_of(fleet.log)}")
    scene.engines = len(fleet.pids(ENGINE))
    loaded_w = statistics.median(watts for _, watts in scene.witness.samples[-20:])
    struck_s, ticks = time.monotonic(), len(fleet.ticks())
    continued = fleet.metric(CONTINUED) or 0.0
    case.strike(scene)
    watch = Watch(scene)
    watch.go_on(lambda: False, HOLD_S)
    floor_w = _floor_w(scene) if case.low_w < LOW_W else 0.0
    obeyed_s = scene.witness.over_for_s(struck_s, OBEYED_SHARE * max(case.low_w, floor_w))
    stale = fleet.metric("steppe_controller_stale")
    case.undo(scene)
    risen_s = time.monotonic()
    scene.signal.set(FULL_W)
    watch.go_on(lambda: scene.clients.completed(risen_s) >= SERVED, RECOVERY_S)
    if fleet.process.poll() is not None:  # its last streams may end a little later
        wait_until(lambda: not scene.clients.open(struck_s), OPEN_S)
    return {
        "case": case.name,
        "loaded_w": loaded_w,
        "obeyed_after_s": obeyed_s,
        "controller_stale": stale,
        "ended_by_itself": fleet.process.poll(),
        "whole_after_s": watch.whole_after_s,
        "longest_gap_s": scene.clients.longest_gap_s(struck_s, time.monotonic()),
        "states": states_of(fleet.ticks()[max(0, ticks - 1) :]),
        "streams": scene.clients.ends(struck_s),
        "continued": _since(continued, fleet.metric(CONTINUED)),
    }


def _since(before: float, after: float | None) -> int:
    """Return what a counter has counted; one of a gateway that has restarted began at 0."""
    if after is None:
        return 0
    return int(after - before if after >= before else after)


def states_of(ticks: Sequence[dict[str, Any]]) -> list[tuple[float, str, str]]:
    """Return the changes of replicas: time since the first tick, s, name and new state."""
    before: dict[str, str] = {}
    changes = []
    for tick in ticks:
        after = {replica["id"]: replica["state"] for replica in tick["replicas"]}
        at_s = round(tick["t_s"] - ticks[0]["t_s"], 1)
        changes += [(at_s, name, after[name]) for name in after if before.get(name) != after[name]]
        before = after
    return changes[2:]


def _floor_w(scene: Scene) -> float:
    """Return the draw of the fleet at its floor: the least of the last seconds, W."""
    return min(watts for _, watts in scene.witness.samples[-20:])


class Watch:
    """Watches when a fleet is whole again after a fault.

    It is whole while it ticks, its gateway answers with fresh metrics, no replica is gone or
    starting, no engine is missing, and no process of it is stopped.
    """

    EVERY_S, FRESH_S = 0.3, 2.5
    STAY_S = 4.0
    """How long it must be whole: a run that ends looks so for a moment, s."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._struck_s = scene, time.monotonic()
        self._broken_s = self._struck_s

    def go_on(self, until: Callable[[], bool], within_s: float) -> None:
        """Watch until a condition holds, the run ends by itself, or the time is over."""
        give_up_s = time.monotonic() + within_s
        while time.monotonic() < give_up_s and self._scene.fleet.process.poll() is None:
            is_whole = self.is_whole()
            if not is_whole:
                self._broken_s = time.monotonic()
            has_stayed = time.monotonic() - self._broken_s >= self.STAY_S
            if is_whole and has_stayed and until():
                return
            time.sleep(self.EVERY_S)

    def is_whole(self) -> bool:
        """Whether the fleet is whole now."""
        fleet = self._scene.fleet
        path = fleet.record / "record.jsonl"
        if self._scene.engines and len(fleet.pids(ENGINE)) < self._scene.engines:
            return False
        if self._scene.struck and is_stopped(self._scene.struck):
            return False
        if time.time() - path.stat().st_mtime > self.FRESH_S and not self._scene.disk_is_full:
            return False
        states = {replica["state"] for replica in fleet.ticks()[-1]["replicas"]}
        return not states & {"gone", "starting"} and fleet.metric("steppe_controller_stale") == 0.0

    @property
    def whole_after_s(self) -> float | None:
        """Time from the fault until it was whole for good, s; None if it has ended by itself."""
        if self._scene.fleet.process.poll() is not None:
            return None
        return self._broken_s - self._struck_s


def _end(scene: Scene) -> dict[str, Any]:
    """End the run, if it still goes on; return its books and what it left."""
    fleet, clients = scene.fleet, scene.clients
    by_itself = fleet.process.poll() is not None
    began_s = time.monotonic()
    if not by_itself:
        fleet.interrupt()
    clients.stop(ENDED_S)
    with_code = wait_until(lambda: fleet.process.poll() is not None, ENDED_S)
    gone_s = wait_until(lambda: not fleet.alive() and not fleet.files(), ENDED_S)
    scene.witness.stop()
    return {
        "exit_code": fleet.process.poll(),
        "end_s": with_code,
        "clean_after_s": None if math.isnan(gone_s) else time.monotonic() - began_s,
        "left": {
            "processes": sorted(command[:60] for command in fleet.alive().values()),
            "files": fleet.files(),
            "locked_gpus": scene.witness.locked(),
        },
        "books": books_of(fleet.record),
    }


def chosen_cases(names: Sequence[str] | None, kind: str) -> list[Case]:
    """Return the cases with these names, or all that an engine can have.

    Raises:
        ValueError: If an engine without a process of its own is asked for.
    """
    possible = [*ENGINE_CASES, *CASES] if kind == "vllm" else list(CASES)
    missing = set(names or ()) - {case.name for case in possible}
    if missing:
        raise ValueError(f"a {kind} engine has no process of its own: {sorted(missing)}")
    return [case for case in possible if names is None or case.name in names]


def main() -> None:
    """Run the cases, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    names = [case.name for case in (*ENGINE_CASES, *CASES)]
    parser.add_argument("--engine", choices=("synthetic", "vllm"), default="synthetic")
    parser.add_argument("--model", type=Path, help="model folder for vLLM instead of a tiny one")
    parser.add_argument("--case", action="append", choices=names, help="only this; may repeat")
    parser.add_argument("--within", type=float, default=math.inf, help="begin no case later, s")
    parser.add_argument("--out", type=Path, help="JSON document to make or to add to")
    parser.add_argument("--keep-logs", action="store_true", help="print the end of the run's log")
    options = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if options.out is not None and options.out.is_file():
        rows = {row["case"]: row for row in json.loads(options.out.read_text())["results"]}
    try:
        chosen = chosen_cases(options.case, options.engine)
    except ValueError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="steppe-model-") as folder:
        engine = SYNTHETIC
        if options.engine == "vllm":
            engine = vllm_engine(options.model or write_tiny_model(Path(folder) / "tiny", seed=0))
        for row in run_cases(chosen, engine, options.within, options.keep_logs):
            rows[row["case"]] = row
            found = document([rows[name] for name in names if name in rows])
            if options.out is not None:
                options.out.write_text(json.dumps(found, indent=1) + "\n")
    ordered = [rows[name] for name in names if name in rows]
    Console(width=140).print(show(ordered))
    print(json.dumps(document(ordered)))


if __name__ == "__main__":
    main()
