from __future__ import annotations

import json
from array import array
from pathlib import Path

import pytest
from pyarrow import parquet

from steppe.load.arrivals import Arrival
from steppe.load.results import LoadResult, RequestResult
from steppe.load.stream import Completed, Failed
from steppe.measure.interchange import (
    AIPERF_RECORDS,
    AIPERF_SUMMARY,
    ML_ENERGY_FILE,
    write_aiperf,
    write_ml_energy,
)
from steppe.measure.serving import LoadEnergy, Slice, energy_keys
from steppe.measure.sweep.store import SweepResults
from steppe.report.records import Slo

# The columns that `mlenergy_data.records.LLMRun` 0.4 cannot do without.
ML_ENERGY_COLUMNS = {
    "domain", "task", "model_id", "nickname", "architecture", "total_params_billions",
    "activated_params_billions", "weight_precision", "gpu_model", "num_gpus", "max_num_seqs",
    "seed", "num_request_repeats", "tensor_parallel", "expert_parallel", "data_parallel",
    "steady_state_energy_joules", "steady_state_duration_seconds", "energy_per_token_joules",
    "energy_per_request_joules", "output_throughput_tokens_per_sec",
    "request_throughput_req_per_sec", "avg_power_watts", "total_output_tokens",
    "completed_requests", "avg_output_len", "mean_itl_ms", "median_itl_ms", "p50_itl_ms",
    "p90_itl_ms", "p95_itl_ms", "p99_itl_ms", "avg_batch_size", "is_stable", "unstable_reason",
    "results_path", "prometheus_path",
}  # fmt: skip


@pytest.fixture
def load() -> LoadResult:
    done = Completed(0.1, 1.0, array("f", [0.1] * 9), 20, 10, "length")
    arrival = Arrival(0.0, 20, 10)
    requests = (
        RequestResult(0, arrival, 0.0, 0.0, 0, done),
        RequestResult(1, arrival, 0.5, 0.5, 0, Failed("broke off")),
    )
    return LoadResult("m", 1000.0, 2.0, 2, requests)


def test_aiperfs_summary_has_its_tags_and_its_millijoules(tmp_path: Path, load: LoadResult) -> None:
    summary = load.summary(Slo(2.0, 0.2))
    keys = energy_keys(summary, LoadEnergy(5.0, 0.1, (Slice(2.0, 5.0, 10.0),)), 2)
    write_aiperf(tmp_path, load, {**summary, **keys})
    found = json.loads((tmp_path / AIPERF_SUMMARY).read_text())
    assert found["time_to_first_token"]["avg"] == pytest.approx(100.0)
    assert found["time_to_first_token"]["unit"] == "ms"
    assert found["inter_token_latency"]["avg"] == pytest.approx(100.0)
    assert found["output_sequence_length"]["sum"] == 10
    assert found["nvidia_energy_per_output_token"] == {"unit": "mJ/token", "avg": 500.0}
    assert found["nvidia_total_gpu_energy"]["avg"] == 5.0


def test_aiperfs_records_have_one_line_a_request_and_keep_failures(
    tmp_path: Path, load: LoadResult
) -> None:
    summary = load.summary(Slo(2.0, 0.2))
    write_aiperf(tmp_path, load, {**summary, **energy_keys(summary, None, 2)})
    lines = [json.loads(line) for line in (tmp_path / AIPERF_RECORDS).read_text().splitlines()]
    assert lines[0]["metrics"]["output_sequence_length"]["value"] == 10
    assert lines[0]["metadata"]["request_end_ns"] == 1_001_000_000_000
    assert lines[1]["error"]["message"] == "broke off"


def test_ml_energys_table_has_all_its_columns_and_marks_unsound_points_unstable(
    tmp_path: Path, results: SweepResults
) -> None:
    path = write_ml_energy(tmp_path / "out", results, "steppe")
    assert path == tmp_path / "out" / ML_ENERGY_FILE
    table = parquet.read_table(path)
    assert set(table.column_names) == ML_ENERGY_COLUMNS
    rows = table.to_pylist()
    assert len(rows) == len(results.points)
    assert [r["unstable_reason"] for r in rows if not r["is_stable"]] == ["throttled"]
    assert all(row["energy_per_token_joules"] > 0 for row in rows)
