"""The benchmark of memory runs a whole job, and compares the two largest sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson


def test_every_row_of_the_job_is_written(bench: Any, tmp_path: Path) -> None:
    found = bench("batch_memory").run_one(tmp_path, 700)
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    ids = {orjson.loads(line)["custom_id"] for line in lines}
    assert ids == {f"row-{number}" for number in range(700)}
    assert len(lines) == found["rows"] == 700
    assert (tmp_path / "errors.jsonl").read_bytes() == b""
    assert found["output_bytes"] == (tmp_path / "out.jsonl").stat().st_size


def test_memory_that_grows_misses_the_target(bench: Any) -> None:
    timed = bench("batch_memory")

    def row(rows: int, memory_bytes: float, claim_s: float) -> dict[str, Any]:
        return {
            "rows": rows,
            "peak_memory_bytes": memory_bytes,
            "finish_rows_per_s": 4000.0,
            "first_output_s": 1.0,
            "claim_first_tenth_s": 0.01,
            "claim_last_tenth_s": claim_s,
        }

    flat = timed.targets([row(10, 50e6, 0.01), row(100, 100e6, 0.01), row(1000, 105e6, 0.01)])
    assert all(target["met"] for target in flat)
    growing = timed.targets([row(100, 100e6, 0.01), row(1000, 200e6, 0.05)])
    assert [target["met"] for target in growing] == [False, True, True, False]
