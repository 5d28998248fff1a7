"""Fleets of several models and of several kinds of GPU."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.fixtures.serving import START_S, PowerSignal, Serving, free_port, wait_until

from steppe.config import shipped_config
from steppe.report.record_folder import read_run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

SYNTHETIC = {"kind": "synthetic", "max_batch_limit": 8}


def ask(fleet: Serving, model: str, tokens: int = 4) -> httpx.Response:
    asked = {"model": model, "prompt": "The wind", "max_tokens": tokens, "ignore_eos": True}
    return httpx.post(fleet.url + "/v1/completions", json=asked, timeout=START_S)


def test_each_model_on_each_kind_of_gpu_has_its_own_points_and_share_of_the_budget(
    serve: Callable[..., Serving], power_signal: PowerSignal
) -> None:
    power_signal.set(700.0)
    fleet = serve(
        model=None,
        models=[
            {"name": "none", "served_name": name, "replicas": 2, "engine": SYNTHETIC}
            for name in ("small", "large")
        ],
        fleet={},
        frontier={},
        device={"kind": "emulated", "profiles": ["l4", "h100", "l4", "h100"]},
        power={
            "supply": [{"kind": "signal", "path": str(power_signal.path)}],
            "stale_s": 600.0,
            "fallback_w": 300.0,
        },
    )
    fleet.wait_for_awake()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: ask(fleet, ("small", "large")[i % 2], 40), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model"] for answer in answers} == {"small", "large"}
    assert ask(fleet, "neither").status_code == 404
    listed = httpx.get(fleet.url + "/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["small", "large"]
    tick = fleet.next_tick()
    assert fleet.end() == 0
    names = {pool.name for pool in tick.pools}
    assert {replica.pool for replica in tick.replicas} == names
    kinds = {name.partition(" on ")[2] for name in names}
    assert kinds == {"NVIDIA L4", "NVIDIA H100 80GB HBM3"}
    assert sum(pool.budget_w for pool in tick.pools) == pytest.approx(tick.budget_w, abs=1.0)
    run = read_run(fleet.record)
    assert {request.model for request in run.requests if request.finish == "length"} == {
        "small",
        "large",
    }
    frontiers = sorted(path.name for path in fleet.record.glob("frontier-*.yaml"))
    assert len(frontiers) == len(names)
    for late in run.ticks[4:]:
        assert late.draw_w <= 1.1 * late.budget_w


def test_an_alias_is_served_by_the_smaller_model_while_watts_are_short(
    serve: Callable[..., Serving], power_signal: PowerSignal
) -> None:
    power_signal.set(300.0)
    fleet = serve(
        model=None,
        models=[
            {"name": "none", "served_name": name, "replicas": 1, "gpus_per_replica": gpus}
            for name, gpus in (("large", 2), ("small", 1))
        ],
        aliases={"assistant": ["large", "small"]},
        engine=SYNTHETIC,
        fleet={},
        frontier={"refine": False},
        device={"kind": "emulated", "profile": "l4", "count": 3},
        power={
            "supply": [{"kind": "signal", "path": str(power_signal.path)}],
            "stale_s": 600.0,
            "fallback_w": 300.0,
        },
    )
    fleet.wait_for_awake()
    assert ask(fleet, "assistant").json()["model"] == "large"
    power_signal.set(75.0)  # three sleeping GPUs draw 48 W, and two that serve another 30 W
    served: list[str] = []

    def is_small() -> bool:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(fleet, "assistant", 40), range(16)))
        assert {answer.status_code for answer in answers} == {200}
        served.extend(answer.json()["model"] for answer in answers)
        return served.count("small") >= 16

    wait_until(is_small, "requests that the small model serves", START_S)

    def listed() -> Any:
        return httpx.get(fleet.url + "/v1/models").json()["data"]

    assert [model["id"] for model in listed()] == ["large", "small", "assistant"]
    wait_until(lambda: listed()[-1]["steppe"]["variants"]["small"] > 0, "a share of the small one")
    power_signal.set(300.0)
    wait_until(
        lambda: ask(fleet, "assistant").json()["model"] == "large", "the large model", START_S
    )
    usage = httpx.get(fleet.url + "/steppe/v1/usage").json()["data"]
    assert {row["model"] for row in usage} == {"large", "small"}
    assert fleet.end() == 0
    run = read_run(fleet.record)
    assert {request.asked_model for request in run.requests} == {"assistant"}
    assert {request.model for request in run.requests} == {"large", "small"}
    assert max(tick.variants["assistant"]["small"] for tick in run.ticks) > 0


def test_a_real_model_whose_tokens_count_less_is_scaled_to_zero_and_back_by_power(
    serve: Callable[..., Serving], power_signal: PowerSignal
) -> None:
    config: dict[str, Any] = yaml.safe_load(Path(shipped_config("two_models.yaml")).read_text())
    config["power"] = {
        "supply": [{"kind": "signal", "path": str(power_signal.path)}],
        "stale_s": 600.0,
        "fallback_w": 30.0,
    }
    config["gateway"] = {"port": free_port()}
    config["frontier"] = {"refine": False}
    config["fleet"] = {"sleep": [{"kind": "stopped", "gpu_w": 1.0, "wake_s": 1.0, "sleep_s": 0.1}]}
    power_signal.set(150.0)
    fleet = serve(**config, model=None)
    fleet.wait_for_awake()
    for model in ("smollm2-135m", "tiny-random"):
        assert ask(fleet, model).json()["usage"]["completion_tokens"] == 4

    def tiny() -> Any:
        return next(r for r in fleet.next_tick().replicas if r.pool == "tiny-random")

    power_signal.set(48.0)
    wait_until(lambda: tiny().depth == "stopped", "the tiny model at zero", START_S)
    assert ask(fleet, "smollm2-135m").status_code == 200, "the other one serves on"
    power_signal.set(150.0)
    assert ask(fleet, "tiny-random").json()["usage"]["completion_tokens"] == 4
    assert tiny().depth == ""
    assert fleet.end() == 0
