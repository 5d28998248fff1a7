"""The benchmark of the ledger writes real books, and measures the log that it has checked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest


def test_every_receipt_is_written_and_published(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = bench("ledger_speed")
    monkeypatch.setattr(speed, "RECEIPTS", 60)
    found = asyncio.run(speed.time_books(str(tmp_path / "ledger.db"), tmp_path, 20, 2))
    assert (found["store"], found["booking_requests"]) == ("sqlite", 20)
    low, high = found["receipts_per_s_range"]
    assert 0 < low <= found["receipts_per_s"] <= high
    assert found["booking_p50_s"] <= found["booking_p99_s"]


def test_a_log_is_made_and_checked(bench: Any, tmp_path: Path) -> None:
    speed = bench("ledger_speed")
    found = speed.time_log(tmp_path, 600, 2)
    assert found["leaves"] == 600
    assert found["check_s"] > 0
    assert 500 < found["proof_bytes"] < found["proof_bytes_with_3_witnesses"] < 2_000


def test_the_targets_are_those_of_sqlite(bench: Any) -> None:
    speed = bench("ledger_speed")
    rows = [
        {"store": "sqlite", "receipts_per_s": 4_000.0},
        {"store": "sqlite", "receipts_per_s": 5_000.0},
        {"store": "postgresql", "receipts_per_s": 9_000.0},
    ]
    log = {"leaves": 10, "check_s": 21.0, "proof_bytes_with_3_witnesses": 1_900}
    assert [target["met"] for target in speed.targets(rows, log)] == [True, False, True]
    assert speed.targets(rows, log)[0]["value"] == 5_000.0
    assert speed.store_name("postgresql+psycopg://x@/y") == "postgresql"
