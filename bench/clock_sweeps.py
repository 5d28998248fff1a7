"""Published measurements of newer GPUs at several SM clocks, with their sources.

No public table has prefill and decode of a language model over clocks and batch sizes for H100,
H200 or B200. These rows are what was found: products of a model's layers at locked clocks with
their raw data, and two papers whose sweeps are known by their statements only. GridPilot's sweep
of a V100 is read from its file (`clock_fit.read_clock_sweep`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from, and how far they are to be trusted.

    Attributes:
        name: Short name.
        where: Citation.
        draw_error: Standard error of a row's draw, relative.
        shared_error: Standard error of the draw at 0.6 of the highest clock that all rows of
            the source share, relative: of its meter, its board and its temperature.
    """

    name: str
    where: str
    draw_error: float
    shared_error: float


@dataclass(frozen=True, slots=True)
class ClockRow:
    """One workload at one clock.

    Attributes:
        source: Where it comes from.
        gpu: The GPU, as in `configs/gpus`.
        workload: What ran; rows of a workload do the same work.
        clock_mhz: SM clock, MHz.
        rate: Work per second, in a unit of the workload.
        draw_w: Draw, W.
        streamed: Share of the energy of the work that streaming from memory causes.
        is_streaming: Whether the rate shows how fast the memory streams at this clock.
    """

    source: Source
    gpu: str
    workload: str
    clock_mhz: float
    rate: float
    draw_w: float
    streamed: float
    is_streaming: bool = False


MATMULS = Source(
    "matmuls",
    "GeometricAGI, 'Zeros make dense matmuls faster', 2026-10-02, raw results in "
    "github.com/GeometricAGI/blog/tree/main/sparse-matmul-speedup/results: H100 80GB HBM3 and "
    "B200, cuBLAS bf16 in CUDA graphs at locked clocks; its README calls the sampled draw "
    "indicative. Read in full",
    draw_error=0.03,
    shared_error=0.05,
)
DECODE_H200 = Source(
    "decode on H200",
    "Ma, Afzal, Eitzinger, Wellein, arXiv 2605.11999 (2026): decode of models of about 4 "
    "billion parameters on one H200, vLLM, batch 1 to 32, 137 to 300 W; at 780 MHz 24 to 32 % "
    "less draw for under 1 % of the throughput; above 1590 MHz the same throughput and 7 to 13 % "
    "more draw; locks from 1830 MHz on run at 1830 MHz. Abstract read; the numbers by clock "
    "second-hand",
    draw_error=0.05,
    shared_error=0.05,
)
GREENER = Source(
    "inference on H100",
    "Stojkovic et al., 'Towards Greener LLMs', arXiv 2403.20306 (2024): 'For most batch sizes, "
    "running the GPUs at 1.6GHz instead of 2GHz yields about the same throughput at less than "
    "80% of the energy'. Second-hand quotation; the 450 W are assumed",
    draw_error=0.05,
    shared_error=0.05,
)
_H200_DECODE_W = 218.0
"""Middle of 137 and 300 W."""


def _matmul(
    gpu: str, workload: str, rows: list[tuple[float, float, float]], streamed: float, fast: bool
) -> list[ClockRow]:
    """Return rows of (clock in MHz, microseconds, W)."""
    return [
        ClockRow(MATMULS, gpu, workload, clock, 1e6 / us, watts, streamed, fast)
        for clock, us, watts in rows
    ]


ROWS: tuple[ClockRow, ...] = (
    # x (m, k) times w (k, n). A row streams if w arrives at 80 % of the data sheet's bandwidth
    # or more; the small w of an expert waits for its launch.
    *_matmul("h100", "1 x 4096 x 129280", [(1980, 360.95, 524.6), (1200, 369.77, 365.0)], 1, True),
    *_matmul("h100", "8 x 4096 x 129280", [(1980, 363.98, 534.9), (1200, 373.17, 368.6)], 1, True),
    *_matmul(
        "h100", "32 x 4096 x 129280", [(1980, 367.00, 600.3), (1200, 378.73, 402.6)], 0.9, True
    ),
    *_matmul("h100", "1 x 1024 x 32768", [(1980, 24.40, 457.9), (1200, 25.83, 326.3)], 1, True),
    *_matmul("h100", "8 x 1024 x 32768", [(1980, 24.89, 471.7), (1200, 26.29, 327.2)], 1, True),
    *_matmul("h100", "32 x 1024 x 32768", [(1980, 25.72, 529.5), (1200, 27.30, 352.5)], 0.9, True),
    *_matmul("h100", "1 x 4096 x 4096", [(1980, 15.96, 397.5), (1200, 19.28, 249.7)], 1, False),
    *_matmul("h100", "12 x 4096 x 4096", [(1980, 16.23, 399.1), (1200, 18.73, 253.7)], 1, False),
    *_matmul("h100", "48 x 4096 x 4096", [(1980, 14.50, 543.3), (1200, 16.57, 326.2)], 0.8, False),
    *_matmul(
        "h100",
        "1024 x 8192 x 8192",
        [(1410, 194.39, 652.5), (1200, 228.27, 488.9), (1005, 272.24, 381.8)],
        0,
        False,
    ),
    *_matmul(
        "h100",
        "2048 x 8192 x 8192",
        [(1410, 386.38, 657.2), (1200, 453.43, 495.3), (1005, 541.32, 386.7)],
        0,
        False,
    ),
    *_matmul(
        "h100", "4096 x 8192 x 8192", [(1200, 898.38, 508.9), (1005, 1072.76, 390.3)], 0, False
    ),
    *_matmul(
        "h100", "8192 x 8192 x 8192", [(1200, 1838.5, 494.0), (1005, 2195.5, 390.9)], 0, False
    ),
    ClockRow(DECODE_H200, "h200", "decode", 1830, 1.0, _H200_DECODE_W, 0.8),
    ClockRow(DECODE_H200, "h200", "decode", 1590, 1.0, _H200_DECODE_W / 1.10, 0.8),
    ClockRow(DECODE_H200, "h200", "decode", 780, 0.99, _H200_DECODE_W * 0.72, 0.8),
    ClockRow(GREENER, "h100", "inference", 1980, 1.0, 450.0, 0.7),
    ClockRow(GREENER, "h100", "inference", 1600, 1.0, 450.0 * 0.8, 0.7),
    *_matmul("b200", "8 x 4096 x 129280", [(1965, 154.52, 937.1), (1005, 229.51, 543.2)], 1, True),
    *_matmul(
        "b200", "1 x 4096 x 129280, zeros", [(1965, 155.32, 701.7), (1005, 219.58, 450.7)], 1, True
    ),
    *_matmul(
        "b200", "8 x 4096 x 129280, zeros", [(1965, 153.91, 750.8), (1005, 229.27, 444.1)], 1, True
    ),
    *_matmul(
        "b200", "1024 x 8192 x 8192", [(1200, 115.88, 813.4), (1005, 142.00, 656.1)], 0, False
    ),
    *_matmul(
        "b200", "2048 x 8192 x 8192", [(1200, 225.80, 835.8), (1005, 275.00, 661.0)], 0, False
    ),
)
"""All rows."""
