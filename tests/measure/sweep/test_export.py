from __future__ import annotations

import json
from pathlib import Path

from pyarrow import parquet

from steppe.measure.sweep.export import bench_points, write_parquet
from steppe.measure.sweep.store import SweepResults


def test_parquet_has_a_row_a_window_and_the_provenance_in_its_metadata(
    tmp_path: Path, results: SweepResults
) -> None:
    path = tmp_path / "results.parquet"
    write_parquet(results, path)
    table = parquet.read_table(path)
    assert table.num_rows == 3 * len(results.points)
    head = json.loads(table.schema.metadata[b"steppe"])
    assert head["provenance"]["energy_source"] == "emulated"
    assert "not a certified wall meter" in head["provenance"]["notice"]
    row = table.to_pylist()[0]
    low, high = row["energy_per_output_token_low"], row["energy_per_output_token_high"]
    assert low < row["energy_per_output_token"] < high


def test_points_for_the_report_keep_values_intervals_and_flags(results: SweepResults) -> None:
    points = bench_points(results)
    assert len(points) == len(results.points)
    assert [p.flags for p in points if not p.is_sound] == [("throttled",)]
    for point in points:
        assert point.tpot_s is not None
        assert point.tpot_s * point.output_tps.value > 0
        assert point.energy_per_output_token.is_bounded
