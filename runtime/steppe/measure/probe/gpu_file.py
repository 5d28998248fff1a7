"""The GPU file of the energy roofline, from probes: what `configs/gpus/` has for known GPUs.

Every number stands beside its source. Rates are the best that a probe reached, scaled to the
highest clock where it ran below. Data sheets, to which the roofline's coefficients were fitted,
give somewhat higher rates, so predicted tokens/s are low by the same share. An emulated GPU has
shares of time and no rates: its rates are nominal, and so are its joules per byte and per FLOP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import yaml

from steppe.measure.probe.probe import ProbeFit, ProbeWindow

REST_S = 3.0
ASSUMED_LINK_BPS = 32e9
"""PCIe 4.0 x16, one direction, bytes/s: the link of a GPU without a faster one."""
_ADA, _BLACKWELL, _UNKNOWN = 8, 10, 0xFFFFFFFF
"""Architectures as `nvml.h` numbers them."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sourced(Generic[T]):
    """A value and its source."""

    value: T
    source: str


@dataclass(frozen=True, slots=True)
class Board:
    """Data of a GPU from NVML.

    Attributes:
        card: Marketing name.
        energy_source: `measured` or `emulated`.
        memory_bytes: Its memory, bytes.
        architecture: As `nvml.h` numbers it; None where NVML does not report it.
        power_limit_w: Board power limit after a driver load, W.
        enforced_w: Board power limit in force, W.
        clocks_mhz: SM clocks that can be asked for, rising, MHz; empty where it cannot.
    """

    card: str
    energy_source: str
    memory_bytes: int
    architecture: int | None
    power_limit_w: float
    enforced_w: float
    clocks_mhz: tuple[int, ...]

    @property
    def has_fp8(self) -> bool:
        """Whether its matrix units support fp8: Ada and newer."""
        return _ADA <= (self.architecture or 0) < _UNKNOWN

    @property
    def coefficients(self) -> str:
        """The fitted coefficients of the nearest architecture that has any."""
        return "b200" if _BLACKWELL <= (self.architecture or 0) < _UNKNOWN else "h100"


@dataclass(frozen=True, slots=True)
class Rates:
    """Memory bandwidth, bytes/s, and dense rates, FLOP/s, at the highest clock."""

    bandwidth_bps: Sourced[float]
    half_flops: Sourced[float]
    fp8_flops: Sourced[float]


@dataclass(frozen=True, slots=True)
class RestDraw:
    """Draw of a GPU without work.

    Attributes:
        bare_w: Without a CUDA context, W.
        context_w: More with one, W.
        clock_mhz: SM clock with a context, MHz.
        caveat: What may be wrong with it; empty when nothing may.
    """

    bare_w: float
    context_w: float
    clock_mhz: int
    caveat: str = ""


@dataclass(frozen=True, slots=True)
class Probed:
    """Everything measured of one GPU.

    Attributes:
        board: Its data from NVML.
        rest: Its draw without work.
        rates: The rates it reaches.
        fit: The cost of its work.
    """

    board: Board
    rest: RestDraw
    rates: Rates
    fit: ProbeFit


def measured_rates(
    windows: Sequence[ProbeWindow], fp8_windows: Sequence[ProbeWindow], highest_mhz: int
) -> Rates:
    """Return the best rates of probes; compute is scaled to the highest clock.

    Args:
        windows: Probes in 16 bits; at least one.
        fp8_windows: Probes in fp8; none where there is none, or it throttled at every clock.
        highest_mhz: Highest SM clock, MHz.
    """
    fastest = max(windows, key=lambda window: window.bytes_per_s)
    bandwidth = Sourced(fastest.bytes_per_s, f"measured: {fastest.name} at {fastest.clock_mhz} MHz")
    half = _best_flops(windows, highest_mhz)
    fp8 = Sourced(half.value, "not probed: the 16-bit rate")
    return Rates(bandwidth, half, _best_flops(fp8_windows, highest_mhz) if fp8_windows else fp8)


def nominal_rates(bandwidth_bps: float, half_flops: float, fp8_flops: float, of: str) -> Rates:
    """Return the nominal rates of an emulated GPU.

    Args:
        bandwidth_bps: Memory bandwidth, bytes/s.
        half_flops: Dense 16-bit rate, FLOP/s.
        fp8_flops: Dense fp8 rate, FLOP/s.
        of: Name of the source.
    """
    source = f"nominal: {of}; an emulated GPU has no rates"
    return Rates(*(Sourced(value, source) for value in (bandwidth_bps, half_flops, fp8_flops)))


def gpu_document(
    name: str, probed: Probed, link: Sourced[float], coefficients: Sourced[str]
) -> dict[str, Any]:
    """Return a GPU file: what `read_gpu_spec` reads, and details for the reader.

    Args:
        name: Name of the GPU; that of an emulated one gets a suffix.
        probed: What was found.
        link: Bandwidth to the other GPUs of its node, one direction, bytes/s.
        coefficients: Fitted coefficients to use.
    """
    source, fit = probed.board.energy_source, probed.fit
    figures = {
        **_board_figures(probed.board, fit.clocks_mhz[-1]),
        "bandwidth_bps": probed.rates.bandwidth_bps,
        "half_flops": probed.rates.half_flops,
        "fp8_flops": probed.rates.fp8_flops,
        "link_bps": link,
        **_rest_figures(probed),
        **_energy_figures(source, fit),
    }
    rows = zip(fit.clocks_mhz, fit.joules_per_flop, fit.static_w, strict=True)
    by_clock = {
        "source": f"{source}; the roofline takes those of the highest clock and a curve of its own",
        "rows": [
            {"clock_mhz": mhz, "joules_per_flop": _short(per_flop), "static_w": _short(static_w)}
            for mhz, per_flop, static_w in rows
        ],
    }
    return {
        "name": f"{name} (emulated)" if source == "emulated" else name,
        "energy_source": source,
        "coefficients": asdict(coefficients),
        **{key: {"value": _short(f.value), "source": f.source} for key, f in figures.items()},
        "by_clock": by_clock,
    }


def gpu_text(document: Mapping[str, Any], card: str) -> str:
    """Return the document as the text of a file, with a warning if it is of an emulated GPU."""
    lines = [f"# {card}, written by `steppe bench probe`; `steppe frontier --gpu` reads it."]
    if document["energy_source"] == "emulated":
        lines.append("# Emulated: the numbers do not describe hardware, and the rates are nominal.")
    body = yaml.safe_dump(dict(document), sort_keys=False, default_flow_style=None, width=1000)
    return "\n".join([*lines, body])


def _board_figures(board: Board, probed_mhz: int) -> dict[str, Sourced[float]]:
    nvml = "emulated NVML" if board.energy_source == "emulated" else "NVML"
    limit = f"{nvml}: default limit"
    if board.enforced_w != board.power_limit_w:
        limit += f"; {board.enforced_w:.0f} W in force during the probes"
    clocks, source = board.clocks_mhz, nvml
    if not clocks:
        clocks, source = (probed_mhz,), "the clock of the probes: NVML has no table of clocks"
    step_mhz = (clocks[-1] - clocks[0]) / (len(clocks) - 1) if len(clocks) > 1 else 1.0
    return {
        "memory_bytes": Sourced(board.memory_bytes, nvml),
        "power_limit_w": Sourced(board.power_limit_w, limit),
        "lowest_mhz": Sourced(clocks[0], source),
        "highest_mhz": Sourced(clocks[-1], source),
        "step_mhz": Sourced(step_mhz, source),
    }


def _rest_figures(probed: Probed) -> dict[str, Sourced[float]]:
    rest, source = probed.rest, probed.board.energy_source
    bare = f"{source}: {REST_S:g} s with no CUDA context{rest.caveat}"
    context = f"{source}: {REST_S:g} s with a CUDA context and no work at {rest.clock_mhz} MHz"
    return {
        "bare_w": Sourced(rest.bare_w, bare),
        "context_w": Sourced(rest.context_w, context + rest.caveat),
    }


def _energy_figures(source: str, fit: ProbeFit) -> dict[str, Sourced[float]]:
    fitted = f"{source}: fit of probes, largest error of a draw {fit.error:.1%}"
    fitted += "; at nominal rates" if source == "emulated" else ""
    at = f"{fitted}; at {fit.clocks_mhz[-1]} MHz"
    return {
        "joules_per_byte": Sourced(fit.joules_per_byte, fitted),
        "joules_per_flop": Sourced(fit.joules_per_flop[-1], at),
        "static_w": Sourced(fit.static_w[-1], at),
    }


def _best_flops(windows: Sequence[ProbeWindow], highest_mhz: int) -> Sourced[float]:
    best = max(windows, key=lambda window: window.flop_per_s / window.clock_mhz)
    source = f"measured: {best.name} at {best.clock_mhz} MHz"
    if best.clock_mhz != highest_mhz:
        source += f", scaled to {highest_mhz} MHz"
    return Sourced(best.flop_per_s * highest_mhz / best.clock_mhz, source)


def _short(value: float) -> float:
    """Return a number rounded to six digits."""
    return value if isinstance(value, int) else float(f"{value:.6g}")
