"""The public table of saturated runs that the roofline is fitted to (ML.ENERGY Benchmark v3)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from roofline_fit import MeasuredRun
from run_progress import progress_of_run
from steppe.errors import TraceError
from steppe.roofline.architecture.shape import ModelShape
from steppe.roofline.files import read_gpu_spec, read_model_shape
from steppe.roofline.hardware import GpuSpec, Host

_CROWDED = ("B200", "gpqa", "1")
_CROWDED_FACTOR = 2.0
_HOST_GPUS = 8
_PROMPTS = {"gpqa": 198, "lm-arena-chat": 1024, "sourcegraph-fim": 1024}
"""Prompts of each task in ML.ENERGY's benchmark."""
_MOST_REPEATS = 13
_WHOLE = 1e-5
_HARMONY = "openai/gpt-oss"
"""How the ids of models begin whose answers vLLM parses token by token; see `Host`."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of the table.

    Attributes:
        model_id: The model's id on the hub.
        architecture: The shape it shares with its siblings: precision and training left out.
        run: The measured run.
        host_bound: Whether the row shows the host's pace, not the GPU's; see `host_bound`. The
            fit uses such a row only where `Host` explains it.
    """

    model_id: str
    architecture: str
    run: MeasuredRun
    host_bound: bool


def read_run_table(path: Path) -> list[TableRow]:
    """Read `llm_text_h100_b200.csv`.

    Raises:
        TraceError: The file is missing or lacks a column.
    """
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
        shapes = {name: read_model_shape(name) for name in {row["model_id"] for row in rows}}
        gpus = {name: read_gpu_spec(name) for name in {row["gpu_model"] for row in rows}}
        slow = host_bound(rows)
        return [
            _table_row(row, shapes[row["model_id"]], gpus[row["gpu_model"]], bound)
            for row, bound in zip(rows, slow, strict=True)
        ]
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error
    except (KeyError, ValueError) as error:
        raise TraceError(f"{path}: not a table of runs: {error}") from error


def host_bound(rows: Sequence[Mapping[str, str]]) -> list[bool]:
    """Return for each row whether it shows the host's pace.

    It does where a B200 gives fewer tokens than an H100 does with the same architecture, task,
    batch limit and number of GPUs; and all one-GPU GPQA runs on B200 of a model that at batch 8
    takes more than twice as long for a token as its architecture does for chat there: other load
    kept that host busy (20 to 45 ms, where chat takes 5 to 14).
    """
    hopper = {_key(row): _number(row, "output") for row in rows if row["gpu_model"] == "H100"}
    beaten = [
        row["gpu_model"] == "B200" and _number(row, "output") < hopper.get(_key(row), 0.0)
        for row in rows
    ]
    chat_itl = {
        architecture_of(row["model_id"]): _number(row, "itl")
        for row in rows
        if row["task"] == "lm-arena-chat" and row["max_num_seqs"] == "8" and _alone(row)
    }
    crowded = {
        row["model_id"]
        for row in rows
        if _campaign(row) == _CROWDED
        and row["max_num_seqs"] == "8"
        and _number(row, "itl")
        > _CROWDED_FACTOR * chat_itl.get(architecture_of(row["model_id"]), float("inf"))
    }
    return [
        slow or (_campaign(row) == _CROWDED and row["model_id"] in crowded)
        for row, slow in zip(rows, beaten, strict=True)
    ]


def host_of(row: Mapping[str, str]) -> Host:
    """Return the host of a row, as the public benchmark set it up, whatever the row shows.

    It fills each host with as many engines as there are GPUs for (`scripts/generate_jobs.py` of
    ml-energy/benchmark, the slots of `hosts_*gpu.yaml`; taken to be hosts of 8 GPUs) and names a
    reasoning parser for GPQA only (`configs/vllm`; not for every Nemotron in every version, but
    for its neighbours in the queue). The mean answer is given, as in all predictions here.
    """
    anew = row["task"] == "gpqa" and not row["model_id"].startswith(_HARMONY)
    neighbours = _HOST_GPUS // int(row["num_gpus"]) - 1
    return Host(neighbours, float(row["avg_output_len"]) if anew else 0.0)


def requests_of(row: Mapping[str, str]) -> int:
    """Return how many requests a row's run served, as far as the row shows.

    ML.ENERGY sends every prompt of a task once or several times. The number returned is the least
    for which the mean answer times all requests is a whole number, and which fills the batch.
    """
    prompts, mean = _PROMPTS[row["task"]], float(row["avg_output_len"])
    tokens = (prompts * mean * n for n in range(1, _MOST_REPEATS))
    whole = (n for n, of_all in enumerate(tokens, 1) if abs(of_all - round(of_all)) < _WHOLE)
    filling = int(row["max_num_seqs"]) // prompts + 1
    return prompts * max(next(whole, 1), filling)


def architecture_of(model_id: str) -> str:
    """Return what a model shares with its siblings: its id without training and precision."""
    name = model_id.rsplit("/", maxsplit=1)[-1]
    for part in ("-Instruct", "-Thinking", "-2507", "-FP8", "-0528"):
        name = name.replace(part, "")
    return "DeepSeek-V3" if name.startswith("DeepSeek") else name


def _alone(row: Mapping[str, str]) -> bool:
    return row["gpu_model"] == "B200" and row["num_gpus"] == "1"


def _campaign(row: Mapping[str, str]) -> tuple[str, str, str]:
    return row["gpu_model"], row["task"], row["num_gpus"]


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    return architecture_of(row["model_id"]), row["task"], row["num_gpus"], row["max_num_seqs"]


def _number(row: Mapping[str, str], what: str) -> float:
    column = {"output": "output_throughput_tokens_per_sec", "itl": "median_itl_ms"}[what]
    return float(row[column])


def _table_row(row: Mapping[str, str], model: ModelShape, gpu: GpuSpec, slow: bool) -> TableRow:
    parallel, host = row["data_parallel"] != "1", host_of(row)
    run = MeasuredRun(
        model=model,
        gpu=gpu,
        gpus=int(row["num_gpus"]),
        batch_limit=int(row["max_num_seqs"]),
        task=row["task"],
        output_tokens=float(row["avg_output_len"]),
        output_tps=_number(row, "output"),
        draw_w=float(row["avg_power_watts"]),
        itl_s=_number(row, "itl") / 1e3,
        fitted=not slow or host.crowding > 0,
        host=host,
        data_parallel=parallel,
        progress=progress_of_run(requests_of(row) / int(row["max_num_seqs"])),
    )
    return TableRow(row["model_id"], architecture_of(row["model_id"]), run, slow)
