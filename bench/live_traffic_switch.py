"""Does a live fleet keep the SLO when prompts become long and answers short?

The fleet of `configs/demo.yaml`: two replicas of a real model of 135 M parameters under vLLM, on
emulated GPUs, behind the real gateway and controller. The budget is constant and above what the
GPUs can draw. First the load has the lengths of the Azure conversation trace, scaled to the model
as in the demo, which are those of the operating points. Then prompts are about three times as long
and answers an eighth, so that far fewer output tokens per second take more work. Nothing else
changes. Energy is emulated; time is real.

    python bench/live_traffic_switch.py --folder runs/switch
    python bench/live_traffic_switch.py --folder runs/full --policy full_clocks

The operating points are the modelled ones, and are not measured while the fleet serves.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import document
import live_machine
from steppe.config import RunConfig, load_config, shipped_config
from steppe.frontier.cache import FrontierCache
from steppe.load.arrivals import Arrival, LengthLimits
from steppe.load.synthetic import SyntheticLoad
from steppe.measure.provenance import source_commit
from steppe.report.latency import Service, percentiles
from steppe.report.quantities import UNKNOWN
from steppe.report.record_folder import read_requests, read_ticks
from steppe.report.records import RequestRecord, Slo, TickRecord
from steppe.run.live import LiveRun, RunPlan, versions
from steppe.run.running_fleet import running_fleet
from steppe.run.starting_frontier import starting_frontiers
from steppe.run.warnings import warn_on_stderr
from targets import at_least, at_most

BUDGET_W = 200.0
"""More than two L4 can draw, which have a power limit of 72 W."""
CONVERSATION_S, LONG_S = 150.0, 180.0
CONVERSATION_RPS, LONG_RPS = 1.0, 0.85
"""Both are about a third of what the two emulated GPUs serve at their highest clock."""
PACE = {"weights_s": 0.072, "decode_s": 0.004, "prefill_s": 0.00112}
"""That of the demo, 1.6 times as slow: engines, gateway and load share the cores of one small
machine, and the emulated GPUs, not these cores, have to set the speed of a step."""
CONVERSATION_LIMITS = LengthLimits(200, 120)
LONG_PROMPT, LONG_OUTPUT = (256, 512), (2, 4)
"""Shortest and longest of the second load, tokens; every length between is as likely."""
WINDOW_S = 10.0
GRACE_S = 60.0
"""Longest time after the last arrival for outstanding requests, s."""
WITHIN_SLO = 0.9
"""Share of the requests of a window that keep the SLO, from which on it counts as kept: a window
has about a dozen requests."""
SETTLED_S = 60.0
"""The SLO has to be kept again within this time after the switch, s."""


def arrivals(seed: int, conversation_s: float, long_s: float) -> tuple[Arrival, ...]:
    """Return the load: conversation, then long prompts with short answers."""
    rng = np.random.default_rng(seed)
    conversation = SyntheticLoad().generate(
        rng,
        rate_rps=CONVERSATION_RPS,
        duration_s=conversation_s,
        length_scale=0.125,
        limits=CONVERSATION_LIMITS,
    )
    times_s = np.sort(rng.uniform(0.0, long_s, size=round(LONG_RPS * long_s)))
    prompts = rng.integers(*LONG_PROMPT, size=len(times_s), endpoint=True)
    outputs = rng.integers(*LONG_OUTPUT, size=len(times_s), endpoint=True)
    rows = zip((conversation_s + times_s).tolist(), prompts.tolist(), outputs.tolist(), strict=True)
    return (*conversation, *(Arrival(*row) for row in rows))


def config_of(policy: str | None) -> RunConfig:
    """Return the demo under a constant ample budget."""
    config = load_config(shipped_config("demo.yaml")).model_dump(mode="json", exclude_unset=True)
    config["power"] = {"supply": [{"kind": "constant", "watts": BUDGET_W}], "fallback_w": 30.0}
    config["gateway"] = {"port": 0, "max_wait_s": 900}
    config["frontier"]["refine"] = False
    config["device"]["pace"] = PACE
    if policy is not None:
        config["control"]["policy"] = policy
    return RunConfig.model_validate(config)


def run(config: RunConfig, load: Sequence[Arrival], folder: Path) -> dict[str, float]:
    """Serve the load and record it in `folder`/record; return the load of the machine."""
    trace = folder / "load.jsonl"
    trace.write_text("".join(_mooncake_line(arrival) for arrival in load))
    console, end_s = Console(stderr=True), load[-1].at_s + GRACE_S
    with running_fleet(config, console) as driver:
        starts = starting_frontiers(
            driver.actors, config, FrontierCache(folder / "no-cache"), warn_on_stderr
        )
        live = LiveRun(driver, RunPlan(config, folder / "record", end_s), console)
        with live_machine.watched() as machine, _client(driver.url, trace) as client:
            live.follow(starts, lambda: client.poll() is not None)
            machine_load = machine.summary()
        live.close()
    if live.is_stopped:
        raise SystemExit("stopped before the load was over")
    return machine_load


@contextmanager
def _client(url: str, trace: Path) -> Generator[subprocess.Popen[bytes]]:
    """Send the load from a process of its own; end it with the block."""
    command = [sys.executable, "-m", "steppe", "load", "--url", url, "--trace", str(trace)]
    client = subprocess.Popen(
        [*command, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield client
    finally:
        client.terminate()
        client.wait(timeout=30)


def _mooncake_line(arrival: Arrival) -> str:
    row = {
        "timestamp": 1000 * arrival.at_s,
        "input_length": arrival.prompt_tokens,
        "output_length": arrival.output_tokens,
    }
    return json.dumps(row) + "\n"


def switch_s(requests: Sequence[RequestRecord]) -> float:
    """Return when the first request of the second load arrived, s since the run began."""
    return min(r.arrival_s for r in requests if r.prompt_tokens >= LONG_PROMPT[0])


def windows(
    requests: Sequence[RequestRecord], ticks: Sequence[TickRecord], slo: Slo
) -> list[dict[str, Any]]:
    """Return a row for each window; times count from the switch, requests by their arrival."""
    zero_s = switch_s(requests)

    def window_of(at_s: float) -> int:
        return math.floor((at_s - zero_s) / WINDOW_S)

    found = [window_of(request.arrival_s) for request in requests]
    return [
        _row(
            number * WINDOW_S,
            [r for r, window in zip(requests, found, strict=True) if window == number],
            [tick for tick in ticks if window_of(tick.t_s) == number],
            slo,
        )
        for number in range(min(found), max(found) + 1)
    ]


def _row(
    from_s: float, requests: Sequence[RequestRecord], ticks: Sequence[TickRecord], slo: Slo
) -> dict[str, Any]:
    service, ttft_s = Service(slo), percentiles(request.ttft_s for request in requests)
    for request in requests:
        service.add(request)
    awake = [replica for tick in ticks for replica in tick.awake]
    return {
        "from_s": from_s,
        "requests": len(requests),
        "ttft_p50_s": ttft_s["p50"],
        "ttft_p95_s": ttft_s["p95"],
        "slo_attainment": service.slo_attainment,
        "draw_w": _mean([tick.draw_w for tick in ticks]),
        "awake": _mean([len(tick.awake) for tick in ticks]),
        "clock_mhz": _mean([replica.clock_mhz for replica in awake]),
        "batch_limit": _mean([replica.batch_limit for replica in awake]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def missed_until_s(rows: Sequence[dict[str, Any]]) -> float:
    """Return how long after the switch the SLO was missed last, s; 0 if it always was kept."""
    missed = [
        row["from_s"] + WINDOW_S
        for row in rows
        if row["from_s"] >= 0 and (row["slo_attainment"] or 0.0) < WITHIN_SLO and row["requests"]
    ]
    return max(missed, default=0.0)


def result_of(
    requests: Sequence[RequestRecord], ticks: Sequence[TickRecord], slo: Slo
) -> dict[str, Any]:
    """Return the windows, and both loads as a whole."""
    zero_s, rows = switch_s(requests), windows(requests, ticks, slo)
    before = [request for request in requests if request.arrival_s < zero_s]
    after = [request for request in requests if request.arrival_s >= zero_s]
    settled = [request for request in after if request.arrival_s >= zero_s + SETTLED_S]
    return {
        "windows": rows,
        "missed_until_s": missed_until_s(rows),
        "conversation": _row(-zero_s, before, [t for t in ticks if t.t_s < zero_s], slo),
        "long_prompts": _row(0.0, after, [t for t in ticks if t.t_s >= zero_s], slo),
        "long_prompts_settled": _row(
            SETTLED_S, settled, [t for t in ticks if t.t_s >= zero_s + SETTLED_S], slo
        ),
        "energy_j": sum(tick.energy_j for tick in ticks),
        "energy_above_budget_j": sum(
            max(0.0, tick.draw_w - tick.budget_w) / tick.draw_w * tick.energy_j
            for tick in ticks
            if tick.draw_w
        ),
    }


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the targets."""
    return [
        at_most("SLO missed last after the switch", result["missed_until_s"], "s", SETTLED_S),
        at_least(
            "SLO attainment before the switch",
            result["conversation"]["slo_attainment"],
            "share",
            WITHIN_SLO,
        ),
    ]


def show(result: dict[str, Any]) -> None:
    """Print the table for people."""
    table = Table(title="two live replicas, ample budget; prompts become long at 0 s")
    for heading in ("from", "requests", "TTFT p50", "p95", "in SLO", "awake", "clock", "draw"):
        table.add_column(heading, justify="right")
    for row in result["windows"]:
        table.add_row(
            f"{row['from_s']:.0f} s",
            str(row["requests"]),
            _text(row["ttft_p50_s"], "{:.1f} s"),
            _text(row["ttft_p95_s"], "{:.1f} s"),
            _text(row["slo_attainment"], "{:.0%}"),
            _text(row["awake"], "{:.1f}"),
            _text(row["clock_mhz"], "{:.0f} MHz"),
            _text(row["draw_w"], "{:.0f} W"),
        )
    Console(width=100).print(table)


def _text(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)


def document_of(
    result: dict[str, Any],
    config: RunConfig,
    machine: dict[str, float],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    return {
        "bench": "live_traffic_switch",
        "commit": source_commit(),
        "hardware": f"{os.cpu_count()} cores, {live_machine.processor()}; 2 emulated L4",
        "arguments": document.arguments_of(arguments),
        "load": {
            "conversation_rps": CONVERSATION_RPS,
            "long_rps": LONG_RPS,
            "long_prompt_tokens": LONG_PROMPT,
            "long_output_tokens": LONG_OUTPUT,
            "pace": PACE,
        },
        "slo": config.slo.model_dump(mode="json"),
        "control": config.control.model_dump(mode="json"),
        "energy_source": "emulated",
        "machine": machine,
        "versions": versions(),
        "results": [result],
        "targets": targets(result),
    }


def main() -> None:
    """Run, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, help="load and record; a new one when absent")
    parser.add_argument("--policy", help="control.policy; the demo's own when absent")
    parser.add_argument("--conversation", type=float, default=CONVERSATION_S, help="its length, s")
    parser.add_argument("--long", type=float, default=LONG_S, help="time after the switch, s")
    parser.add_argument("--seed", type=int, default=0, help="seed of arrivals and lengths")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="steppe-switch-"))
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(arguments.policy)
    load = arrivals(arguments.seed, arguments.conversation, arguments.long)
    machine = run(config, load, folder)
    record = folder / "record"
    slo = Slo(config.slo.ttft_s, config.slo.tpot_s)
    result = result_of(read_requests(record), read_ticks(record), slo)
    show(result)
    print(json.dumps(document_of(result, config, machine, arguments)))


if __name__ == "__main__":
    main()
