"""`steppe bench probe`: joules per byte, joules per FLOP and static watts of a GPU."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import orjson
import yaml
from rich.console import Console
from rich.table import Table

from steppe.cli.bench_meter import HostMeter, choose_gpus, clock_setter, metering
from steppe.cli.bench_rigs import provenance_of, refuse_shared
from steppe.device.emulator.environment import activate, remove_state
from steppe.device.emulator.library import Emulator
from steppe.device.inventory import has_admin_capability
from steppe.device.nvml import NvmlGpu
from steppe.errors import InstallError
from steppe.fleet.leftovers import gpus_file
from steppe.measure.point import THROTTLES
from steppe.measure.probe import (
    EMULATED_LOADS,
    EmulatedProbe,
    ProbeFit,
    ProbeLoad,
    fit_probes,
    probe_windows,
)
from steppe.measure.sweep import SETTLE_S, spread_clocks

LOWEST_SHARE = 0.4
EMULATED_PEAK = (1e12, 1e14)
"""Bytes/s and FLOP/s that an emulated GPU is said to reach: it has shares only, and no rates."""


@dataclass(frozen=True, slots=True)
class KernelProbe:
    """A probe kernel on a real GPU, see `steppe_kernels.probe`."""

    workload: Any

    @property
    def name(self) -> str:
        """Kernel and shape."""
        return str(self.workload.name)

    def run(self, seconds: float) -> tuple[float, float]:
        """Launch it again and again; return the bytes/s and FLOP/s that were reached."""
        from steppe_kernels.probe import probe

        achieved = probe(self.workload, seconds)
        return achieved.bytes_per_s, achieved.flop_per_s


INTENSITIES = (32.0, 512.0)
"""FLOP for each byte of the matmul probes: one is bound by memory, one by the matrix units."""


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """How to probe: how many clocks, and how long each metered window is, s."""

    clocks: int
    window_s: float


@click.command("probe", epilog="Example: steppe bench probe --emulated h100 --clocks 4")
@click.option("--gpu", default=0, show_default=True, help="Which GPU; nobody else may use it.")
@click.option("--emulated", metavar="PROFILE", help="Probe a fresh emulated GPU instead.")
@click.option(
    "--clocks",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="How many clock limits to probe, where they can be set.",
)
@click.option(
    "--window",
    type=click.FloatRange(min=0.5),
    default=5.0,
    show_default=True,
    help="Length of one metered probe, s.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the fit here, as YAML.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def probe_command(out: Path | None, as_json: bool, **values: Any) -> None:
    """Run small kernels that hold one resource at a known rate, and fit what each costs.

    Probes move bytes only, compute only, both, or spin; their draw at several clocks tells
    joules per byte, joules per FLOP and static watts apart.
    """
    console = Console(stderr=as_json)
    plan = ProbePlan(values["clocks"], values["window"])
    with (
        _opened(values["gpu"], values["emulated"]) as (card, loads),
        metering([card]) as meter,
        console.status("probing"),
    ):
        fit = _probe(card, loads, meter, plan)
        provenance = provenance_of([card], "", "probe kernels", 0)
    document = {"provenance": asdict(provenance), "fit": asdict(fit)}
    if out is not None:
        out.write_text(yaml.safe_dump(orjson.loads(orjson.dumps(document)), sort_keys=False))
    if as_json:
        click.echo(orjson.dumps(document))
    else:
        console.print(_table(fit))


def _probe(
    card: NvmlGpu, loads: Sequence[ProbeLoad], meter: HostMeter, plan: ProbePlan
) -> ProbeFit:
    clocks = card.capabilities.sm_clocks_mhz if has_admin_capability() else ()
    chosen = spread_clocks(clocks, plan.clocks, LOWEST_SHARE)

    def energy_j() -> tuple[float, float]:
        now_s = time.monotonic()
        return now_s, meter.read_at(now_s)[0]

    windows = []
    with clock_setter([card]) as set_clock:
        for clock_mhz in chosen or (0,):
            if clock_mhz:
                set_clock(clock_mhz)
                time.sleep(SETTLE_S)
            at_mhz = clock_mhz or card.sm_clock_mhz()
            windows += probe_windows(loads, at_mhz, energy_j, _throttled(card), plan.window_s)
    return fit_probes(windows)


def _throttled(card: NvmlGpu) -> Callable[[], bool]:
    return lambda: bool(card.sample().reasons & THROTTLES)


@contextmanager
def _opened(index: int, emulated: str | None) -> Generator[tuple[NvmlGpu, Sequence[ProbeLoad]]]:
    """Open a GPU with the probes that run on it."""
    if emulated is None:
        card = choose_gpus([index])[0]
        refuse_shared([card])
        yield card, _kernel_probes()
        return
    state = gpus_file(os.getpid())
    emulator = activate(emulated, 1, state)
    try:
        yield choose_gpus([0])[0], emulated_probes(emulator)
    finally:
        remove_state(state)


def emulated_probes(
    emulator: Emulator, sleep: Callable[[float], None] = time.sleep
) -> list[EmulatedProbe]:
    """Return the probes of the first GPU of an emulator."""

    def set_load(core: float, mem: float) -> None:
        emulator.set_load(0, core=core, mem=mem, valid_s=math.inf)

    def speed() -> float:
        return emulator.speed(0)

    return [
        EmulatedProbe(name, core, mem, EMULATED_PEAK, set_load, speed, sleep)
        for name, core, mem in EMULATED_LOADS
    ]


def _kernel_probes() -> list[KernelProbe]:
    try:
        from steppe_kernels.matmul import matmul_workload
        from steppe_kernels.paged_decode import decode_workload
        from steppe_kernels.spin import spin_workload
        from steppe_kernels.stream_copy import copy_workload
    except ImportError as error:
        raise InstallError(f"probe kernels need torch and triton, found: {error}") from error
    matmuls = [matmul_workload(flop_per_byte) for flop_per_byte in INTENSITIES]
    made = (spin_workload(), copy_workload(), *matmuls, decode_workload())
    return [KernelProbe(workload) for workload in made]


def _table(fit: ProbeFit) -> Table:
    table = Table("clock, MHz", "pJ/FLOP", "static W", box=None)
    rows = zip(fit.clocks_mhz, fit.joules_per_flop, fit.static_w, strict=True)
    for clock_mhz, per_flop, static_w in rows:
        table.add_row(str(clock_mhz), f"{1e12 * per_flop:.4g}", f"{static_w:.1f}")
    table.caption = (
        f"{1e12 * fit.joules_per_byte:.4g} pJ/byte at every clock; "
        f"largest error of the draw {fit.error:.1%}"
    )
    return table
