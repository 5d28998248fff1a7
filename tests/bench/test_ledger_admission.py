"""What a hold adds to a request, counted with a real ledger and two real gateways."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger_admission import WAITS, WITH, WITHOUT, added, document, measure


def row(way: str, ttft_s: float, cpu_s: float, concurrency: int = 16) -> dict[str, Any]:
    ttft, cpu = {"median": ttft_s}, {"median": cpu_s}
    return {"way": way, "concurrency": concurrency, "ttft_p50_s": ttft, "cpu_s": cpu}


def test_what_a_hold_adds_is_the_difference_to_the_gateway_without_a_ledger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ledger_admission.CONCURRENCIES", (16,))
    rows = [
        row(WITHOUT, 0.020, 0.010),
        row(WITH, 0.0205, 0.0102),
        row(WAITS, 0.026, 0.0104),
        row(WITH, 0.5, 0.5, concurrency=1),
    ]
    assert added(rows, WITH, 16, "ttft_p50_s") == pytest.approx(0.0005)
    made = document(rows)
    assert made["results"]["waiting_adds_s"] == {"16": pytest.approx(0.006)}
    assert [target["value"] for target in made["targets"]] == pytest.approx([0.0005, 0.02])
    assert all(target["met"] for target in made["targets"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_requests_with_holds_are_answered_as_those_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ledger_admission.CONCURRENCIES", (2,))
    rows = asyncio.run(measure(rounds=1, seconds=1.0))
    assert [(each["way"], each["concurrency"]) for each in rows] == [
        (WITHOUT, 2),
        (WITH, 2),
        (WAITS, 2),
    ]
    assert all(each["cpu_s"]["median"] > 0 for each in rows)
    assert all(0.02 < each["ttft_p50_s"]["min"] < each["e2e_p50_s"]["min"] for each in rows)
