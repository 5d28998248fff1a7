"""`steppe bench probe`: joules per byte, joules per FLOP and static watts of a GPU."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from steppe.errors import UsageError
from steppe.measure.probe.gpu_file import (
    ASSUMED_LINK_BPS,
    Board,
    Sourced,
    gpu_document,
    gpu_text,
)
from steppe.measure.probe.probe import ProbeFit
from steppe.options import ABOVE_ZERO, EMULATED, FiniteRange, json_option
from steppe.outputs import NewFile, write_whole
from steppe.roofline.files import read_calibration
from steppe.run.gpu_provenance import provenance_of
from steppe.run.host_meter import clock_setter, metering
from steppe.run.probe_gpu import (
    GpuProbeMeter,
    ProbeControls,
    ProbePlan,
    open_subject,
    probe_clocks,
    probe_gpu,
)
from steppe.run.probe_progress import probe_progress


@click.command(
    "probe",
    epilog="Example: steppe bench probe --emulated h100 --clocks 4 --out mine.yaml, and then: "
    "steppe frontier --model llama-3.1-8b --gpu mine.yaml",
)
@click.option("--gpu", default=0, show_default=True, help="Which GPU; no other process may use it.")
@click.option("--emulated", type=EMULATED, help="Probe a new emulated GPU instead.")
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
    help="For the file: whose fitted coefficients to use, h100 or b200; by architecture otherwise.",
)
@json_option
def probe_command(out: Path | None, as_json: bool, **values: Any) -> None:
    """Run small kernels that hold one resource at a known rate, and fit what each costs.

    Probes move bytes only, compute only, both, or spin; their draw at several clocks
    separates joules per byte, joules per FLOP and static watts. With the rates that they reach and
    what the GPU draws without work, these are the GPU file of the energy roofline (--out).
    """
    link_bps, coefficients = values["link"], values["coefficients"]
    _check(out, link_bps, coefficients)
    console = Console(stderr=as_json)
    with (
        open_subject(values["gpu"], values["emulated"]) as subject,
        metering([subject.card]) as meter,
        clock_setter([subject.card]) as set_clock,
        probe_progress(console) as on_clock,
    ):
        plan = ProbePlan(probe_clocks(subject.card, values["clocks"]), values["window"])
        gpu_meter = GpuProbeMeter(subject.card, meter)
        controls = ProbeControls(gpu_meter, time.sleep, set_clock, on_clock)
        probed = probe_gpu(subject, controls, plan)
        provenance = asdict(provenance_of([subject.card], "", "probe kernels", 0))
    if as_json:
        click.echo(orjson.dumps({"provenance": provenance, "fit": asdict(probed.fit)}))
    else:
        console.print(_table(probed.fit))
    if out is not None:
        source = _coefficients(coefficients, probed.board)
        document = gpu_document(out.stem, probed, _link(link_bps), source)
        document["provenance"] = orjson.loads(orjson.dumps(provenance))
        write_whole(out, [gpu_text(document, probed.board.card).encode()])


def _check(out: Path | None, link_bps: float | None, coefficients: str | None) -> None:
    """Check the options before minutes of probes, not after."""
    if out is None and (link_bps is not None or coefficients is not None):
        raise UsageError("--link and --coefficients go into a GPU file, found no --out")
    known = sorted(read_calibration().coefficients)
    if coefficients is not None and coefficients not in known:
        raise UsageError(f"--coefficients: asked for {coefficients}, found {', '.join(known)}")


def _link(option_bps: float | None) -> Sourced[float]:
    if option_bps is not None:
        return Sourced(option_bps, "given: --link")
    return Sourced(ASSUMED_LINK_BPS, "assumed: PCIe 4.0 x16, one direction; not measured")


def _coefficients(option: str | None, board: Board) -> Sourced[str]:
    if option is not None:
        return Sourced(option, "given: --coefficients")
    return Sourced(board.coefficients, "nearest architecture; not fitted to this GPU")


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
