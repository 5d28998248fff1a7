"""A real fleet of synthetic engines starts without a sweep, and measures while it serves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.serving import START_S, Serving, free_port

from steppe.frontier.cache import frontier_cache
from steppe.report.record_folder import SUMMARY_FILE

pytestmark = pytest.mark.cluster
BUDGET_W = 100.0


@pytest.fixture
def config() -> dict[str, Any]:
    return {
        "model": {"name": "tiny"},
        "engine": {"kind": "synthetic", "max_batch_limit": 8},
        "device": {"kind": "emulated", "profile": "l4", "count": 2},
        "power": {"supply": [{"kind": "constant", "watts": BUDGET_W}]},
        "frontier": {"sweep": {"clocks": 2, "batch_limits": [2, 8], "window_s": 1.0}},
        "gateway": {"port": free_port()},
    }


@pytest.fixture
def serve(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Serving]]:
    """Return a function that starts a run, with a cache of its own, in a new folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runs: list[Serving] = []

    def start(name: str) -> Serving:
        (tmp_path / name).mkdir()
        runs.append(Serving.start(config, tmp_path / name))
        return runs[-1]

    yield start
    for run in runs:
        run.clean()


def summary_of(run: Serving) -> dict[str, Any]:
    """End a run, and return its summary."""
    run.end()
    summary: dict[str, Any] = json.loads((run.record / SUMMARY_FILE).read_text())
    return summary


@pytest.mark.timeout(3 * START_S)
def test_a_run_serves_on_a_modelled_frontier_and_the_next_one_on_what_it_measured(
    serve: Callable[[str], Serving],
) -> None:
    first = serve("first")
    first.wait_for_words("serving on")
    answer = first.client.completions.create(model="tiny", prompt="Wind is", max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
    assert frontier_cache().entries() == [], "clients are served before anything is measured"
    first.wait_for_words("frontier measured while serving")
    summary = summary_of(first)
    assert summary["frontier_source"] == "measured"
    assert summary["frontier_measured_at_s"] > 0
    assert summary["output_tokens"] == 4, "the tokens of the measurement are no client's"
    assert summary["tracking"]["over_budget_j"] == 0, "the measurement keeps the budget"
    (entry,) = frontier_cache().entries()
    assert (entry.source, entry.subject.gpu) == ("emulated", "NVIDIA L4")

    second = serve("second")
    second.wait_for_words("serving on")
    second.last_tick()
    assert summary_of(second)["frontier_source"] == "cached"
