from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow import parquet

from steppe.errors import UsageError
from steppe.measure.provenance import Provenance
from steppe.measure.sweep.result import PointResult, RestWatts
from steppe.measure.sweep.store import (
    PARQUET_FILE,
    RESULTS_FILE,
    ResultsFile,
    RunHead,
    SweepResults,
    read_results,
    write_parquet,
)


def test_what_was_written_is_read_back(
    tmp_path: Path, provenance: Provenance, make_point: Callable[..., PointResult]
) -> None:
    head = RunHead(provenance, RestWatts(bare_w=12.0), {"windows": 3})
    file = ResultsFile(tmp_path)
    file.begin(head)
    file.add(make_point(1800, 8))
    found = read_results(tmp_path)
    assert found.head == head
    assert found.points == (make_point(1800, 8),)


def test_an_error_without_a_bound_is_read_back_as_such(
    tmp_path: Path, provenance: Provenance, make_point: Callable[..., PointResult]
) -> None:
    point = make_point(1800, 8)
    windows = tuple(replace(window, error_j=math.inf) for window in point.windows)
    point = replace(point, windows=windows, meter_error_j=math.inf)
    file = ResultsFile(tmp_path)
    file.begin(RunHead(provenance, RestWatts(), {}))
    file.add(point)
    assert read_results(tmp_path).points == (point,)


def test_a_resumed_sweep_repeats_unsound_points_only(tmp_path: Path, results: SweepResults) -> None:
    done = ResultsFile(tmp_path).done
    assert len(done) == len(results.points) - 1
    assert "mixed c2000 b8 p144 o26" not in done


def test_a_truncated_line_is_dropped_and_the_next_is_whole(
    tmp_path: Path, results: SweepResults, make_point: Callable[..., PointResult]
) -> None:
    path = tmp_path / RESULTS_FILE
    path.write_bytes(path.read_bytes()[:-100])
    file = ResultsFile(tmp_path)
    assert file.earlier is not None
    assert len(file.earlier.points) == len(results.points) - 1
    file.add(make_point(2100, 8))
    assert len(read_results(tmp_path).points) == len(results.points)


def test_a_later_measurement_of_a_point_replaces_the_earlier(
    tmp_path: Path, results: SweepResults, make_point: Callable[..., PointResult]
) -> None:
    ResultsFile(tmp_path).add(make_point(2000, 8))
    found = read_results(tmp_path)
    assert len(found.points) == len(results.points)
    assert len(found.sound) == len(found.points)


def test_results_of_another_model_are_not_mixed_in(
    tmp_path: Path, results: SweepResults, other_model: Provenance
) -> None:
    assert results.points
    with pytest.raises(UsageError, match="asked to continue with another, found results of small"):
        ResultsFile(tmp_path).begin(RunHead(other_model, RestWatts(), {}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no start of a sweep"),
        (
            '{"kind": "point", "key": "x"}\n',
            "line 1: not a line of a sweep: meter_error_j: missing",
        ),
        ('{"kind": "run", "provenance": 3}\n', "line 1: not a line of a sweep: "),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / RESULTS_FILE).write_text(text)
    with pytest.raises(UsageError, match=message):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("number", "bad", "message"),
    [
        ('"energy_j":', '"a lot"', "windows.0.energy_j: Input should be a valid number.* a lot"),
        ('"batch_limit":', "null", "setting.batch_limit: .*found None"),
        ('"clock_mhz":', "[1]", "setting.clock_mhz: "),
    ],
)
def test_a_bad_number_of_a_point_is_named_in_one_line(
    tmp_path: Path,
    make_point: Callable[..., PointResult],
    number: str,
    bad: str,
    message: str,
) -> None:
    ResultsFile(tmp_path).add(make_point(1800, 8))
    file = tmp_path / RESULTS_FILE
    begin, rest = file.read_text().split(number, 1)
    file.write_text(f"{begin}{number}{bad},{rest.split(',', 1)[1]}")
    with pytest.raises(UsageError, match=f"line 1: not a line of a sweep: {message}") as caught:
        read_results(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        read_results(tmp_path / "nowhere")


def test_parquet_has_a_row_for_each_window_and_the_provenance_in_its_metadata(
    results: SweepResults,
) -> None:
    write_parquet(results)
    table = parquet.read_table(results.path.parent / PARQUET_FILE)
    assert table.num_rows == 3 * len(results.points)
    head = json.loads(table.schema.metadata[b"steppe"])
    assert head["provenance"]["energy_source"] == "emulated"
    assert "not a certified wall meter" in head["provenance"]["notice"]
    row = table.to_pylist()[0]
    low, high = row["energy_per_output_token_low"], row["energy_per_output_token_high"]
    assert low < row["energy_per_output_token"] < high
