"""Results in the shapes that AIPerf's and ML.ENERGY's own tools read.

AIPerf 0.13 (schema 1.4): `profile_export_aiperf.json`, one entry a metric with unit, mean and
percentiles, and `profile_export.jsonl`, one line a request. Its pydantic models
(`aiperf.common.models`) accept both; `bench/against_aiperf.py` checks it.

ML.ENERGY's data toolkit 0.4 (`mlenergy-data`): `runs/llm.parquet`, one row a run, which
`LLMRuns.from_directory` reads. Unknown values (parameters, parallelism) stay empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from steppe.load.results import LoadResult, RequestResult
from steppe.load.stream import Completed
from steppe.measure.sweep.result import Phase, PointResult
from steppe.measure.sweep.store import SweepResults

AIPERF_SCHEMA = "1.4"
AIPERF_SUMMARY = "profile_export_aiperf.json"
AIPERF_RECORDS = "profile_export.jsonl"
ML_ENERGY_FILE = Path("runs") / "llm.parquet"

Values = Mapping[str, Any]

_PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
# Our key, AIPerf's tag, its unit, and what ours is multiplied by.
_ENERGY = (
    ("total_gpu_energy", "nvidia_total_gpu_energy", "J", 1.0),
    ("average_gpu_power", "nvidia_average_gpu_power", "W", 1.0),
    ("output_tokens_per_joule", "nvidia_output_tokens_per_joule", "tokens/J", 1.0),
    ("energy_per_output_token", "nvidia_energy_per_output_token", "mJ/token", 1000.0),
    ("energy_per_total_token", "nvidia_energy_per_total_token", "mJ/token", 1000.0),
    ("energy_per_request", "nvidia_energy_per_request", "J/request", 1.0),
    ("energy_per_user", "nvidia_energy_per_user", "J/user", 1.0),
    ("energy_delay_product", "nvidia_energy_delay_product", "J*s", 1.0),
    ("performance_per_watt", "nvidia_performance_per_watt", "requests/sec/W", 1.0),
    ("output_tps_per_watt", "nvidia_output_tps_per_watt", "tokens/sec/W", 1.0),
    ("goodput_per_watt", "nvidia_goodput_per_watt", "good_requests/sec/W", 1.0),
)
_RATES = (
    ("request_throughput", "request_throughput", "requests/sec"),
    ("output_throughput", "output_token_throughput", "tokens/sec"),
    ("total_token_throughput", "total_token_throughput", "tokens/sec"),
    ("request_goodput", "goodput", "requests/sec"),
    ("completed", "request_count", "requests"),
    ("total_output_tokens", "total_osl", "tokens"),
    ("total_input_tokens", "total_isl", "tokens"),
    ("duration", "benchmark_duration", "sec"),
)


def write_aiperf(folder: Path, load: LoadResult, summary: Values) -> None:
    """Write a load test as AIPerf does.

    Args:
        folder: Where to; it exists.
        load: What the clients saw.
        summary: The result with its energy keys.
    """
    document = {"schema_version": AIPERF_SCHEMA, **_aiperf_metrics(load, summary)}
    (folder / AIPERF_SUMMARY).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    with (folder / AIPERF_RECORDS).open("wb") as file:
        for request in load.requests:
            file.write(orjson.dumps(_aiperf_record(request, load.began_epoch_s)) + b"\n")


def _aiperf_metrics(load: LoadResult, summary: Values) -> dict[str, Any]:
    done = [request for request in load.requests if isinstance(request.outcome, Completed)]
    answers = [r.outcome for r in done if isinstance(r.outcome, Completed)]
    found = {
        "time_to_first_token": _spread([r.ttft_s for r in done], "ms", 1000.0),
        "request_latency": _spread([r.e2e_s for r in done], "ms", 1000.0),
        "inter_token_latency": _spread([r.tpot_s for r in done], "ms", 1000.0),
        "output_sequence_length": _spread([a.output_tokens for a in answers], "tokens", 1.0),
        "input_sequence_length": _spread([a.prompt_tokens for a in answers], "tokens", 1.0),
    }
    for key, tag, unit in _RATES:
        found[tag] = _scalar(summary[key], unit)
    for key, tag, unit, factor in _ENERGY:
        value = summary.get(key)
        found[tag] = None if value is None else _scalar(value * factor, unit)
    return {tag: entry for tag, entry in found.items() if entry is not None}


def _scalar(value: float, unit: str) -> dict[str, Any]:
    return {"unit": unit, "avg": float(value)}


def _spread(values: Sequence[float | None], unit: str, factor: float) -> dict[str, Any] | None:
    known = factor * np.array([value for value in values if value is not None], dtype=float)
    if not known.size:
        return None
    entry: dict[str, Any] = {"unit": unit, "avg": float(known.mean())}
    cuts = np.percentile(known, _PERCENTILES).tolist()
    entry |= {f"p{level}": cut for level, cut in zip(_PERCENTILES, cuts, strict=True)}
    entry |= {"min": float(known.min()), "max": float(known.max()), "sum": float(known.sum())}
    return entry | {"std": float(known.std(ddof=int(known.size > 1))), "count": int(known.size)}


def _aiperf_record(request: RequestResult, began_epoch_s: float) -> dict[str, Any]:
    end_s = request.due_s if request.e2e_s is None else request.due_s + request.e2e_s
    metadata = {
        "session_num": request.index,
        "turn_index": 0,
        "request_start_ns": round((began_epoch_s + request.due_s) * 1e9),
        "request_end_ns": round((began_epoch_s + end_s) * 1e9),
        "worker_id": "steppe",
        "record_processor_id": "steppe",
        "benchmark_phase": "profiling",
        "was_cancelled": request.finish == "cancelled",
    }
    metrics = {
        "time_to_first_token": (request.ttft_s, "ms", 1000.0),
        "request_latency": (request.e2e_s, "ms", 1000.0),
        "inter_token_latency": (request.tpot_s, "ms", 1000.0),
    }
    shown = {
        tag: {"value": value * factor, "unit": unit}
        for tag, (value, unit, factor) in metrics.items()
        if value is not None
    }
    match request.outcome:
        case Completed(prompt_tokens=prompt, output_tokens=output):
            shown["output_sequence_length"] = {"value": output, "unit": "tokens"}
            shown["input_sequence_length"] = {"value": prompt, "unit": "tokens"}
            return {"metadata": metadata, "metrics": shown}
        case _:
            error = {"type": request.finish, "message": str(request.row()["error"] or "")}
            return {"metadata": metadata, "metrics": shown, "error": error}


def write_ml_energy(folder: Path, results: SweepResults, task: str) -> Path:
    """Write the mixed points of a sweep as rows of ML.ENERGY's table; return the file.

    Unsound points are marked unstable with their flags as the reason.

    Args:
        folder: Root of the table; made when missing.
        results: The sweep.
        task: Name of the load, in place of their task.
    """
    from pyarrow import Table, parquet

    path = folder / ML_ENERGY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        _ml_energy_row(results, point, task)
        for point in results.points
        if point.setting.phase is Phase.MIXED and point.estimates is not None
    ]
    parquet.write_table(Table.from_pylist(rows), path)
    return path


def _ml_energy_row(results: SweepResults, point: PointResult, task: str) -> dict[str, Any]:
    provenance = results.head.provenance
    return {
        "domain": "llm",
        "task": task,
        "model_id": provenance.model,
        "nickname": provenance.model,
        "gpu_model": provenance.gpus[0] if provenance.gpus else "",
        "num_gpus": len(provenance.gpus),
        "max_num_seqs": point.setting.batch_limit,
        "seed": provenance.seed,
        "tensor_parallel": len(provenance.gpus),
        "is_stable": point.is_sound,
        "unstable_reason": ", ".join(point.flags),
        **_ML_ENERGY_UNKNOWN,
        **_ml_energy_numbers(point),
    }


_ML_ENERGY_UNKNOWN = {
    "architecture": "",
    "total_params_billions": float("nan"),
    "activated_params_billions": float("nan"),
    "weight_precision": "",
    "num_request_repeats": None,
    "expert_parallel": 1,
    "data_parallel": 1,
    "energy_per_request_joules": None,
    "request_throughput_req_per_sec": None,
    "p90_itl_ms": float("nan"),
    "results_path": "",
    "prometheus_path": "",
}


def _ml_energy_numbers(point: PointResult) -> dict[str, Any]:
    estimates, batch = point.estimates, point.setting.batch_limit
    assert estimates is not None, "the caller leaves out points without tokens"
    p50_ms, p95_ms, p99_ms = (1000 * (s or float("nan")) for s in _itl_s(point))
    return {
        "steady_state_energy_joules": sum(window.energy_j for window in point.windows),
        "steady_state_duration_seconds": sum(window.duration_s for window in point.windows),
        "energy_per_token_joules": estimates.energy_per_output_token.value,
        "output_throughput_tokens_per_sec": estimates.output_tps.value,
        "avg_power_watts": estimates.draw_w.value,
        "total_output_tokens": float(sum(window.output_tokens for window in point.windows)),
        "completed_requests": float(point.client.requests),
        "avg_output_len": float(point.setting.output_tokens),
        "mean_itl_ms": 1000 * batch / estimates.output_tps.value,
        "median_itl_ms": p50_ms,
        "p50_itl_ms": p50_ms,
        "p95_itl_ms": p95_ms,
        "p99_itl_ms": p99_ms,
        "avg_batch_size": float(batch),
    }


def _itl_s(point: PointResult) -> tuple[float | None, float | None, float | None]:
    return point.client.itl_p50_s, point.client.itl_p95_s, point.client.itl_p99_s
