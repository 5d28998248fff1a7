"""Requests for an alias on a simulated fleet: a smaller model serves some while watts are short."""

from __future__ import annotations

import math
from typing import Any

import pytest

import steppe
from steppe.control.aliases import SharedOut
from steppe.report.record_folder import read_run

LARGE: dict[str, Any] = {
    "name": "none",
    "served_name": "large",
    "replicas": 3,
    "gpus_per_replica": 4,
    "load": {
        "length_scale": 0.125,
        "utilisation": 0.7,
        "alias": "assistant",
        "required_share": 0.2,
    },
}
SMALL: dict[str, Any] = {
    "name": "none",
    "served_name": "small",
    "replicas": 2,
    "load": {"length_scale": 0.125, "utilisation": 0},
}
CONFIG: dict[str, Any] = {
    "models": [LARGE, SMALL],
    "aliases": {"assistant": ["large", "small"]},
    "engine": {"kind": "synthetic", "max_batch_limit": 16},
    "device": {"kind": "emulated", "profile": "l4", "count": 14},
    "power": {"supply": [{"kind": "constant", "watts": 900}]},
    "frontier": {"sweep": {"prompt_tokens": 144, "output_tokens": 26, "batch_limits": [8, 16]}},
    "sim": {"duration_s": 45, "wake_s": 0.5, "sleep_s": 0.2},
}
SCARCE_W = 380.0


@pytest.fixture(scope="module")
def scarce() -> steppe.RunResult:
    return steppe.simulate(
        CONFIG | {"power": {"supply": [{"kind": "constant", "watts": SCARCE_W}]}}
    )


def test_while_watts_are_short_the_small_model_serves_requests_for_the_alias(
    scarce: steppe.RunResult,
) -> None:
    served = scarce.summary["aliases"]["assistant"]
    assert served["small"]["good"] > 0
    assert served["large"]["good"] > 0
    assert {request.asked_model for request in scarce.request_records} == {"assistant"}
    shares = [tick.variants["assistant"] for tick in scarce.tick_records[1:]]
    assert max(each["small"] for each in shares) > 0
    assert all(sum(each.values()) == pytest.approx(1.0) for each in shares)


def test_the_books_of_a_run_with_variants_are_exact(scarce: steppe.RunResult) -> None:
    summary = scarce.summary
    charged_j = math.fsum(request.energy_j or 0.0 for request in scarce.request_records)
    parts_j = summary["idle_energy_j"] + summary["transition_energy_j"]
    assert charged_j + parts_j == pytest.approx(summary["energy_j"])
    numbers = [request.id for request in scarce.request_records]
    assert len(set(numbers)) == len(numbers)


def test_more_requests_keep_the_slo_than_without_the_alias(scarce: steppe.RunResult) -> None:
    alone = LARGE | {"load": LARGE["load"] | {"alias": None}}
    without = steppe.simulate(
        CONFIG
        | {
            "models": [alone, SMALL],
            "aliases": {},
            "power": {"supply": [{"kind": "constant", "watts": SCARCE_W}]},
        }
    )
    assert scarce.summary["request_goodput"] > 1.3 * without.summary["request_goodput"]
    assert without.summary["aliases"] == {}


def test_a_record_with_variants_is_read_back(scarce: steppe.RunResult, tmp_path: Any) -> None:
    scarce.save(tmp_path / "run")
    found = read_run(tmp_path / "run")
    assert found.ticks == scarce.tick_records
    assert (tmp_path / "run" / "figure.png").read_bytes()


def test_requests_are_dealt_by_their_shares() -> None:
    dealt = SharedOut.of(("large", "small"))
    dealt.shares = {"large": 0.7, "small": 0.3}
    found = [dealt.next(("large", "small")) for _ in range(1000)]
    assert found.count("large") == pytest.approx(700, abs=2)


def test_a_variant_without_room_is_passed_over_and_gets_no_more_than_a_few_later() -> None:
    dealt = SharedOut.of(("large", "small"))
    assert {dealt.next(("small",)) for _ in range(100)} == {"small"}
    dealt.shares = {"large": 0.5, "small": 0.5}
    found = [dealt.next(("large", "small")) for _ in range(20)]
    assert found.count("large") <= 14
