"""`steppe bench probe`: joules per byte, joules per FLOP and static watts of a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from steppe.device.inventory import has_admin_capability
from steppe.device.nvml import NvmlGpu
from steppe.energy.meter import EnergyTotal
from steppe.errors import UsageError
from steppe.measure.probe.gpu_file import (
    ASSUMED_LINK_BPS,
    REST_S,
    Board,
    Probed,
    RestDraw,
    Sourced,
    gpu_document,
    gpu_text,
    measured_rates,
)
from steppe.measure.probe.probe import SETTLE_S as LOAD_S
from steppe.measure.probe.probe import (
    ProbeFit,
    ProbeLoad,
    ProbeMeter,
    ProbeWindow,
    fit_probes,
    probe_windows,
)
from steppe.measure.sweep.grid import spread_clocks
from steppe.measure.sweep.idle import SETTLE_S
from steppe.measure.sweep.point import THROTTLES
from steppe.options import ABOVE_ZERO, EMULATED, FiniteRange
from steppe.outputs import NewFile, write_whole
from steppe.roofline.files import read_calibration
from steppe.run.gpu_provenance import provenance_of
from steppe.run.host_meter import clock_setter, metering
from steppe.run.probe_gpu import Loads, ProbeSubject, board_of, opened

LOWEST_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """How to probe.

    Attributes:
        clocks_mhz: Clock limits to set, MHz; empty where they cannot be set.
        window_s: Length of a metered window, s.
    """

    clocks_mhz: tuple[int, ...]
    window_s: float


@dataclass(frozen=True, slots=True)
class Hands:
    """What probing does to a GPU beside running loads.

    Attributes:
        meter: Sees the GPU.
        sleep: Waits, s.
        set_clock: Sets the clock limit, MHz.
    """

    meter: ProbeMeter
    sleep: Callable[[float], None]
    set_clock: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class CardMeter:
    """One GPU of this host while probes run on it.

    Attributes:
        card: The GPU.
        joules: Its meter.
    """

    card: NvmlGpu
    joules: EnergyTotal

    def now_s(self) -> float:
        """Return the time, s."""
        return time.monotonic()

    def energy_j(self, at_s: float) -> float:
        """Return the energy until an instant just past, J; waits for the counter to cover it."""
        return self.joules.read_at(at_s).energy_j

    def throttled(self) -> bool:
        """Tell whether heat or the board power limit holds the clock down now."""
        return bool(self.card.sample().reasons & THROTTLES)


@click.command(
    "probe",
    epilog="Example: steppe bench probe --emulated h100 --clocks 4 --out mine.yaml, and then: "
    "steppe frontier --model llama-3.1-8b --gpu mine.yaml",
)
@click.option("--gpu", default=0, show_default=True, help="Which GPU; nobody else may use it.")
@click.option("--emulated", type=EMULATED, help="Probe a fresh emulated GPU instead.")
@click.option(
    "--clocks",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="How many clock limits to probe, where they can be set.",
)
@click.option(
    "--window",
    type=FiniteRange(min=0.5),
    default=5.0,
    show_default=True,
    help="Length of one metered probe, s.",
)
@click.option(
    "--out",
    type=NewFile(),
    help="Write a new GPU file, which `steppe frontier --gpu` and `device: {kind: modelled}` read.",
)
@click.option(
    "--link",
    type=ABOVE_ZERO,
    help="For the file: bandwidth to other GPUs of the node, one direction, bytes/s; "
    "PCIe 4.0 x16 is assumed otherwise.",
)
@click.option(
    "--coefficients",
    metavar="NAME",
    help="For the file: whose fitted coefficients to lean on, h100 or b200; by architecture "
    "otherwise.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def probe_command(out: Path | None, as_json: bool, **values: Any) -> None:
    """Run small kernels that hold one resource at a known rate, and fit what each costs.

    Probes move bytes only, compute only, both, or spin; their draw at several clocks tells
    joules per byte, joules per FLOP and static watts apart. With the rates that they reach and
    what the GPU draws without work, these are the GPU file of the energy roofline (--out).
    """
    link_bps, coefficients = values["link"], values["coefficients"]
    _refuse_early(out, link_bps, coefficients)
    console = Console(stderr=as_json)
    with (
        opened(values["gpu"], values["emulated"]) as subject,
        metering([subject.card]) as meter,
        clock_setter([subject.card]) as set_clock,
        console.status("probing"),
    ):
        plan = ProbePlan(_clocks(subject.card, values["clocks"]), values["window"])
        hands = Hands(CardMeter(subject.card, meter), time.sleep, set_clock)
        probed = probe_gpu(subject, hands, plan)
        provenance = asdict(provenance_of([subject.card], "", "probe kernels", 0))
    if as_json:
        click.echo(orjson.dumps({"provenance": provenance, "fit": asdict(probed.fit)}))
    else:
        console.print(_table(probed.fit))
    if out is not None:
        leaning = _leaning(coefficients, probed.board)
        document = gpu_document(out.stem, probed, _link(link_bps), leaning)
        document["provenance"] = orjson.loads(orjson.dumps(provenance))
        write_whole(out, [gpu_text(document, probed.board.card).encode()])


def _refuse_early(out: Path | None, link_bps: float | None, coefficients: str | None) -> None:
    """Find out before minutes of probes, not after."""
    if out is None and (link_bps is not None or coefficients is not None):
        raise UsageError("--link and --coefficients go into a GPU file, found no --out")
    known = sorted(read_calibration().coefficients)
    if coefficients is not None and coefficients not in known:
        raise UsageError(f"--coefficients: asked for {coefficients}, found {', '.join(known)}")


def _clocks(card: NvmlGpu, count: int) -> tuple[int, ...]:
    """Return the clock limits to probe, MHz; a single one is the highest."""
    clocks = card.capabilities.sm_clocks_mhz if has_admin_capability() else ()
    return clocks[-1:] if count == 1 else spread_clocks(clocks, count, LOWEST_SHARE)


def _link(asked_bps: float | None) -> Sourced[float]:
    if asked_bps is not None:
        return Sourced(asked_bps, "given: --link")
    return Sourced(ASSUMED_LINK_BPS, "assumed: PCIe 4.0 x16, one direction; not measured")


def _leaning(asked: str | None, board: Board) -> Sourced[str]:
    if asked is not None:
        return Sourced(asked, "given: --coefficients")
    return Sourced(board.coefficients, "nearest architecture; not fitted to this GPU")


def probe_gpu(subject: ProbeSubject, hands: Hands, plan: ProbePlan) -> Probed:
    """Measure a GPU without work, then without and with each load, at every clock.

    Raises:
        DeviceError: It does not answer, or tells of no board power limit.
        InfeasibleError: Too few probes ran without being throttled.
    """
    board = board_of(subject.card)
    bare_w = _rest_w(hands)
    loads = subject.make_loads(board.has_fp8)
    hands.sleep(LOAD_S)
    context_w = max(0.0, _rest_w(hands) - bare_w)
    rest = RestDraw(bare_w, context_w, subject.card.sm_clock_mhz(), subject.caveat)
    windows, fp8_windows = _windows(subject.card, loads, hands, plan)
    fit = fit_probes(windows)
    highest_mhz = (board.clocks_mhz or fit.clocks_mhz)[-1]
    rates = subject.nominal or measured_rates(windows, fp8_windows, highest_mhz)
    return Probed(board, rest, rates, fit)


def _windows(
    card: NvmlGpu, loads: Loads, hands: Hands, plan: ProbePlan
) -> tuple[list[ProbeWindow], list[ProbeWindow]]:
    """Meter the probes of the fit and those in fp8 at every clock."""
    half, fp8 = [], []
    for clock_mhz in plan.clocks_mhz or (0,):
        if clock_mhz:
            hands.set_clock(clock_mhz)
            hands.sleep(SETTLE_S)
        at_mhz = clock_mhz or _busy_clock_mhz(card, loads.half[0])
        how = at_mhz, hands.meter, plan.window_s
        half += probe_windows(loads.half, *how)
        fp8 += probe_windows(loads.fp8, *how)
    return half, fp8


def _rest_w(hands: Hands) -> float:
    begin_s = hands.meter.now_s()
    hands.sleep(REST_S)
    end_s = hands.meter.now_s()
    begin_j, end_j = hands.meter.energy_j(begin_s), hands.meter.energy_j(end_s)
    return (end_j - begin_j) / (end_s - begin_s)


def _busy_clock_mhz(card: NvmlGpu, load: ProbeLoad) -> int:
    """Return the clock that a GPU takes by itself: at work, for it may rest at a lower one."""
    load.run(LOAD_S)
    return card.sm_clock_mhz()


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
