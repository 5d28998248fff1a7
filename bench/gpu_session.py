"""What does one GPU draw at idle, per byte, per FLOP and per token, and how good is its counter?

One command, under 10 minutes, for a machine that is available once. It changes no setting of the
GPU and needs only torch, triton, transformers and numpy; NVML is read through ctypes. Each section
runs in a process of its own, so that a failure does not affect the others. Windows run from a tick
of the energy counter to another: what is left of its error is the polling, a few ms of draw. The
language model has the shape of Llama-3.2-1B and random weights: its joules are a model's, its text
is noise.

    python bench/gpu_session.py              (--dry-run: tiny sizes, no GPU, an emulated counter)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gpu.decoding import decode
from gpu.idling import bare, counter, with_context
from gpu.meter import Meter
from gpu.plan import FULL, TINY, Plan
from gpu.probing import probes

ROOT = Path(__file__).resolve().parents[1]
# What the sections import later is also found where nothing is installed.
sys.path[:0] = [str(ROOT / "runtime"), str(ROOT / "kernels")]

Row = dict[str, Any]
SECTIONS: dict[str, tuple[Callable[[Meter, Plan], Iterator[Row]], float]] = {
    "idle": (bare, 40.0),
    "idle_with_context": (with_context, 60.0),
    "counter": (counter, 60.0),
    "probes": (probes, 200.0),
    "decode": (decode, 230.0),
}
"""What to measure, and the time limit of each, s: 590 s in all."""
PACKAGES = ("torch", "triton", "transformers", "numpy")
FIND_GPU = """
import torch
if torch.cuda.is_available():
    print("GPU-" + str(torch.cuda.get_device_properties(0).uuid).removeprefix("GPU-"))
"""


def run_section(name: str, plan: Plan, uuid: str | None) -> None:
    """Measure one section and print a JSON line for each row, as soon as it is there."""
    for row in SECTIONS[name][0](Meter(uuid), plan):
        print(json.dumps(row), flush=True)


def start_section(name: str, options: list[str], environment: dict[str, str]) -> Row:
    """Run one section in a process of its own and return its rows, with its error if it failed."""
    command = [sys.executable, __file__, "--section", name, *options]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=out, stderr=log, text=True, env=environment)
        try:
            code = process.wait(timeout=SECTIONS[name][1])
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        out.seek(0)
        log.seek(0)
        rows = [json.loads(line) for line in out if line.startswith("{")]
        last = ([line.strip() for line in log if line.strip()] or ["no message"])[-1]
    return {"rows": rows} if code == 0 else {"rows": rows, "error": f"exit {code}: {last}"}


def find_gpu() -> str | None:
    """Return the NVML id of the GPU that CUDA counts first; None without one.

    Runs in a child process, so that the bare idle draw is measured without a CUDA context.
    """
    found = subprocess.run(
        [sys.executable, "-c", FIND_GPU], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


def emulated(folder: Path) -> dict[str, str]:
    """Return the environment of a dry run: Triton's interpreter and an emulated GPU."""
    from steppe.emulator.environment import emulated_environment

    return {**emulated_environment("h100", 1, folder / "gpus"), "TRITON_INTERPRET": "1"}


def measure(options: list[str], environment: dict[str, str]) -> Row:
    """Run all the sections, one after the other."""
    results: Row = {}
    for name in SECTIONS:
        start_s = time.monotonic()
        results[name] = start_section(name, options, environment)
        print(f"{name}: {time.monotonic() - start_s:.0f} s", file=sys.stderr, flush=True)
    return results


def versions() -> dict[str, str]:
    """Return the versions of the packages in use."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def document(results: Row, card: dict[str, str], elapsed_s: float, *, dry: bool) -> Row:
    """Return the result as the last line of a benchmark."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        commit = "unknown"
    failed = [name for name, section in results.items() if "error" in section]
    return {
        "bench": "gpu_session",
        "commit": commit,
        "hardware": f"{card['gpu']}, driver {card['driver']}" + (", emulated" if dry else ""),
        "boundary": "gpu",
        "energy_source": "emulated" if dry else "counter",
        "versions": versions(),
        "elapsed_s": elapsed_s,
        "results": results,
        "targets": [
            _target("session", elapsed_s, "s", 600),
            _target("sections that failed", len(failed), "sections", 0),
        ],
    }


def _target(name: str, value: float, unit: str, target: float) -> Row:
    return {"name": name, "value": value, "unit": unit, "target": target, "met": value <= target}


def show(results: Row) -> None:
    """Print the tables for people."""
    for name in ("idle", "idle_with_context", "counter"):
        for row in results[name]["rows"]:
            numbers = {key: f"{value:.4g}" for key, value in row.items() if key != "at_end"}
            print(f"{name:18}", " ".join(f"{key}={value}" for key, value in numbers.items()))
    print(f"\n{'probe':36}{'GB/s':>9}{'of peak':>9}{'TFLOP/s':>9}{'of peak':>9}{'W':>8}{'MHz':>6}")
    for row in results["probes"]["rows"]:
        rates = f"{row['bytes_per_s'] / 1e9:9.1f}{_share(row['of_bandwidth'])}"
        rates += f"{row['flop_per_s'] / 1e12:9.1f}{_share(row['of_compute'])}"
        print(f"{row['name']:36}{rates}{row['draw_w']:8.1f}{row['at_end']['sm_clock_mhz']:6}")
    print(f"\n{'batch limit':>12}{'tokens/s':>10}{'W':>8}{'tokens/J':>10}{'MHz':>6}")
    for row in results["decode"]["rows"]:
        print(
            f"{row['batch_limit']:12}{row['output_tps']:10.0f}{row['draw_w']:8.1f}"
            f"{row['output_tokens_per_joule']:10.3f}{row['at_end']['sm_clock_mhz']:6}"
        )
    for name, section in results.items():
        if "error" in section:
            print(f"{name} failed: {section['error']}")


def _share(share: float | None) -> str:
    return f"{'?':>9}" if share is None else f"{share:9.1%}"


def session(*, dry: bool) -> Row:
    """Measure everything and return the document."""
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        added = emulated(Path(folder)) if dry else {}
        uuid = None if dry else find_gpu()
        options = ["--dry-run"] if dry else ["--uuid", str(uuid)]
        environment = {**os.environ, **added}
        results = measure(options, environment)
        names = [sys.executable, __file__, "--names", *options]
        named = subprocess.run(names, capture_output=True, text=True, check=True, env=environment)
    card = json.loads(named.stdout)
    show(results)
    return document(results, card, time.monotonic() - start_s, dry=dry)


def main() -> None:
    """Measure, print tables, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, no GPU; emulated")
    for internal in ("--section", "--uuid"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    parser.add_argument("--names", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.section:
        run_section(arguments.section, TINY if arguments.dry_run else FULL, arguments.uuid)
    elif arguments.names:
        print(json.dumps(Meter(arguments.uuid).names()))
    elif arguments.dry_run or find_gpu():
        print(json.dumps(session(dry=arguments.dry_run)))
    else:
        print("no GPU that torch can use: nothing measured (--dry-run needs none)")
        print(json.dumps({"bench": "gpu_session", "hardware": "no GPU", "results": None}))


if __name__ == "__main__":
    main()
