from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SESSION = Path(__file__).parents[2] / "bench" / "gpu_session.py"


@pytest.mark.slow
@pytest.mark.timeout(600)  # its sections are given up after 590 s in all
def test_a_dry_run_measures_every_section_on_an_emulated_gpu() -> None:
    run = subprocess.run(
        [sys.executable, str(SESSION), "--dry-run"], capture_output=True, text=True, check=True
    )
    document = json.loads(run.stdout.splitlines()[-1])
    assert document["energy_source"] == "emulated"
    assert document["hardware"].endswith(", emulated")
    results = document["results"]
    assert [name for name, section in results.items() if "error" in section] == []
    counted = results["counter"]["rows"][0]
    assert counted["period_s"] == pytest.approx(0.1, rel=0.1)
    assert abs(counted["against_power_reading"]) < 0.05
    names = [row["name"].split()[0] for row in results["probes"]["rows"]]
    assert set(names) == {"spin", "stream_copy", "matmul", "paged_decode"}
    batches = results["decode"]["rows"]
    assert [row["scheduled"] for row in batches] == [row["batch_limit"] for row in batches]
    for row in batches:
        assert row["output_tokens_per_joule"] == pytest.approx(row["output_tps"] / row["draw_w"])
