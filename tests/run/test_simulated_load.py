from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steppe.config import ModelledSection, RunConfig
from steppe.roofline.lengths import RequestLengths
from steppe.run.check_inputs import check_config
from steppe.run.simulated_load import (
    arrivals_for,
    mean_request,
    warn_of_lengths,
    with_lengths_of_load,
)


def config_of(**parts: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": "gemma-3-27b"},
            "fleet": {"replicas": 2},
            "device": {"kind": "modelled", "gpu": "h100"},
            "power": {"supply": [{"kind": "constant", "watts": 1000}]},
            "frontier": {"file": "points.yaml"},
        }
        | parts
    )


def day_of(load: Mapping[str, object], duration_s: float = 86_400 / 24) -> RunConfig:
    """Return a run of a day from 6 o'clock, 24 times as fast."""
    return RunConfig.model_validate(
        {
            "model": {"name": "none"},
            "device": {"kind": "emulated"},
            "power": {
                "supply": [{"kind": "constant", "watts": 1}],
                "start": datetime(2001, 9, 5, 6),
                "speedup": 24,
            },
            "frontier": {"sweep": {}},
            "load": load,
            "sim": {"duration_s": duration_s},
        }
    )


def trace_of(path: Path, prompts: Sequence[int]) -> Path:
    """Write a trace of one request a second with these prompts and 20 output tokens each."""
    rows = [
        f"2023-11-16 18:{at // 60:02}:{at % 60:02}.0000000,{prompt},20"
        for at, prompt in enumerate(prompts)
    ]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    return path


def test_without_a_sweep_the_mean_request_is_that_of_the_load(tmp_path: Path) -> None:
    path = str(trace_of(tmp_path / "trace.csv", (100, 300)))
    replayed = config_of(load={"trace": path, "length_scale": 2.0})
    assert mean_request(replayed) == RequestLengths(400, 40)
    drawn = mean_request(config_of())
    assert drawn.prompt_tokens == pytest.approx(1155, rel=0.03)
    assert drawn.output_tokens == pytest.approx(211, rel=0.03)


def test_a_sweep_without_lengths_takes_those_of_the_load(tmp_path: Path) -> None:
    drawn = with_lengths_of_load(config_of(frontier={"sweep": {"clocks": 3}}))
    assert drawn.frontier.sweep is not None
    assert drawn.frontier.sweep.clocks == 3
    assert mean_request(drawn).prompt_tokens == pytest.approx(1155, rel=0.03)
    assert mean_request(drawn).output_tokens == pytest.approx(211, rel=0.03)
    load = {"trace": str(trace_of(tmp_path / "trace.csv", (100, 300))), "length_scale": 2.0}
    replayed = with_lengths_of_load(config_of(frontier={"sweep": {}}, load=load))
    assert mean_request(replayed) == RequestLengths(400, 40)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"prompt_tokens": 128, "output_tokens": 64}, RequestLengths(128, 64)),
        ({"prompt_tokens": 500}, RequestLengths(500, 64)),
        ({"output_tokens": 500}, RequestLengths(128, 500)),
    ],
)
def test_a_sweep_keeps_the_lengths_that_it_gives(
    given: dict[str, int], meant: RequestLengths
) -> None:
    config = config_of(frontier={"sweep": given})
    assert mean_request(with_lengths_of_load(config)) == meant


def test_a_context_too_short_for_the_default_sweep_is_valid_if_the_load_fits() -> None:
    model = {"name": "gemma-3-27b", "max_model_len": 160}
    check_config(config_of(model=model, frontier={"sweep": {}}))


@pytest.mark.parametrize(
    ("given", "warns"),
    [
        ({}, False),
        ({"prompt_tokens": 200, "output_tokens": 20}, False),
        ({"prompt_tokens": 101, "output_tokens": 29}, False),
        ({"prompt_tokens": 99, "output_tokens": 20}, True),
        ({"prompt_tokens": 200, "output_tokens": 31}, True),
    ],
)
def test_sweep_lengths_far_from_those_of_the_load_cause_a_warning(
    tmp_path: Path, given: dict[str, int], warns: bool
) -> None:
    warnings: list[str] = []
    load = {"trace": str(trace_of(tmp_path / "trace.csv", (100, 300)))}
    warn_of_lengths(config_of(frontier={"sweep": given}, load=load), warnings.append)
    warning = (
        "frontier.sweep: the points and load.utilisation are those of requests of "
        f"{given.get('prompt_tokens')} prompt and {given.get('output_tokens')} output tokens, the "
        "load's have 200 and 20 on average"
    )
    assert warnings == ([warning] if warns else [])


def test_requests_fit_the_context_of_the_model() -> None:
    config = day_of({"length_scale": 40.0, "rate_rps": 1.0}, duration_s=600)
    modelled = ModelledSection(kind="modelled", gpu="h100")
    own = config.model.model_copy(update={"name": "qwen3-8b"})
    found = arrivals_for(config.model_copy(update={"device": modelled, "model": own}), 1e4)
    assert max(arrival.prompt_tokens for arrival in found) == 40960 // 2
    assert max(arrival.output_tokens for arrival in found) == 40960 // 4
    limited = own.model_copy(update={"max_model_len": 4096})
    found = arrivals_for(config.model_copy(update={"device": modelled, "model": limited}), 1e4)
    assert max(arrival.prompt_tokens for arrival in found) == 2048


def test_the_load_peaks_at_the_configured_hour_of_the_day() -> None:
    config = day_of({"rate_rps": 5, "daily_depth": 0.9, "daily_peak_hour": 18})
    times_s = [arrival.at_s for arrival in arrivals_for(config, 1000)]
    hourly = np.histogram(times_s, bins=24, range=(0, 3600))[0]
    # The run begins at 6 o'clock, so 18 o'clock is in the middle.
    assert hourly[10:14].sum() > 5 * hourly[[0, 1, 22, 23]].sum()


def test_the_rate_follows_the_utilisation_unless_it_is_given() -> None:
    offered = [
        sum(a.output_tokens for a in arrivals_for(day_of(load), 1000.0)) / 3600
        for load in ({"utilisation": 0.5}, {"utilisation": 1.0})
    ]
    assert offered == pytest.approx([500, 1000], rel=0.15)
    given = arrivals_for(day_of({"rate_rps": 2, "utilisation": 1.0}), 1000.0)
    assert len(given) / 3600 == pytest.approx(2, rel=0.1)


def test_a_trace_file_is_replayed_at_the_configured_rate(tmp_path: Path) -> None:
    path = trace_of(tmp_path / "trace.csv", [100] * 60)
    found = arrivals_for(day_of({"trace": str(path), "rate_rps": 2}), 1000.0)
    assert len(found) == 60
    assert found[-1].at_s == pytest.approx(59 / 2)


def test_requests_of_a_trace_that_are_cut_to_the_context_cause_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    path = trace_of(tmp_path / "trace.csv", [100, 40_000, 8192, 8193] * 10)
    config = day_of({"trace": str(path), "rate_rps": 1}, duration_s=20)
    short = config.model.model_copy(update={"max_model_len": 16384})
    shortened = config.model_copy(update={"model": short})
    found = arrivals_for(shortened, 1000.0, warnings.append)
    assert [arrival.prompt_tokens for arrival in found[:4]] == [100, 8192, 8192, 8192]
    arrivals_for(config, 1000.0, warnings.append)
    assert warnings == [
        f"load.trace: 10 of 20 requests of {path} are cut to what the model takes, at most 8192 "
        "prompt and 4096 output tokens"
    ]


def test_a_trace_that_ends_early_in_the_run_causes_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    path = trace_of(tmp_path / "trace.csv", [100] * 200)
    load = {"trace": str(path), "utilisation": 0.5}
    found = arrivals_for(day_of(load, duration_s=600), 800.0, warnings.append)
    assert found[-1].at_s == pytest.approx(9.95)
    arrivals_for(day_of(load, duration_s=10), 800.0, warnings.append)
    assert warnings == [
        f"load.trace: {path} is played at 20 requests/s, its own rate is 1: "
        "it ends 9.95 s into a run of 600 s"
    ]


@pytest.mark.parametrize("traffic", ["summaries", "agents", "reasoning", "half_and_half"])
def test_the_mean_request_of_a_traffic_is_that_of_its_arrivals(traffic: str) -> None:
    config = day_of({"traffic": traffic, "rate_rps": 5})
    bare = config.model_copy(update={"frontier": config_of().frontier})
    mean, drawn = mean_request(bare), arrivals_for(config, 1000.0)
    computed = np.mean([a.prompt_tokens - a.cached_tokens for a in drawn])
    assert mean.prompt_tokens == pytest.approx(computed, rel=0.05)
    assert mean.cached_tokens == pytest.approx(np.mean([a.cached_tokens for a in drawn]), rel=0.05)
    assert mean.output_tokens == pytest.approx(np.mean([a.output_tokens for a in drawn]), rel=0.05)


def test_the_utilisation_is_that_of_each_traffic() -> None:
    changes = [{"at_s": 1800, "traffic": "summaries"}]
    config = day_of({"utilisation": 0.5, "traffic_changes": changes})
    drawn = arrivals_for(config, 1000.0)
    before, after = (
        sum(a.output_tokens for a in drawn if (a.at_s < 1800) == is_before) / 1800
        for is_before in (True, False)
    )
    assert (before, after) == pytest.approx((500, 500), rel=0.2)


def test_a_traffic_changes_at_its_time_to_its_rate() -> None:
    changes = [
        {"at_s": 1200, "traffic": "embeddings", "rate_rps": 4},
        {"at_s": 2400, "traffic": "retrieval"},
    ]
    drawn = arrivals_for(day_of({"rate_rps": 2, "traffic_changes": changes}), 1000.0)
    first, second, third = (
        [a for a in drawn if begin_s <= a.at_s < begin_s + 1200] for begin_s in (0, 1200, 2400)
    )
    assert [len(phase) / 1200 for phase in (first, second, third)] == pytest.approx(
        [2, 4, 2], rel=0.35
    )
    assert {a.output_tokens for a in second} == {1}
    assert np.mean([a.prompt_tokens for a in third]) == pytest.approx(8000, rel=0.05)


def test_tenants_keep_their_name_and_get_a_priority() -> None:
    load = {"traffic": "flooding_tenant", "rate_rps": 5, "priorities": {"interactive": 1.0}}
    drawn = arrivals_for(day_of(load), 1000.0)
    assert {a.tenant for a in drawn} == {"flood", *(f"tenant-{n}" for n in range(1, 5))}
    assert {a.rank for a in drawn} == {0, 1}


def test_a_traffic_that_is_cut_to_the_context_causes_a_warning() -> None:
    warnings: list[str] = []
    config = day_of({"traffic": "reasoning", "rate_rps": 1}, duration_s=20)
    arrivals_for(config, 1000.0, warnings.append)
    assert warnings == []
    short = config.model.model_copy(update={"max_model_len": 16384})
    arrivals_for(config.model_copy(update={"model": short}), 1000.0, warnings.append)
    (warning,) = warnings
    assert warning.startswith("load.traffic: requests of reasoning are cut to what the model takes")
    assert "at most 8192 prompt and 4096 output tokens" in warning
