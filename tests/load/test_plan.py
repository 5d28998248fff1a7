from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from tests.fixtures.openai_server import FakeOpenAI

from steppe.errors import TraceError, UsageError
from steppe.load.arrivals import Arrival, poisson
from steppe.load.plan import LoadPlan, plan_arrivals, run_load

TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.0,40,8
2023-11-16 18:15:47.0,80,16
2023-11-16 18:15:48.0,120,24
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "azure.csv"
    path.write_text(TRACE)
    return path


def test_a_model_that_the_server_lacks_is_named(server: FakeOpenAI) -> None:
    with pytest.raises(UsageError, match="asked for model huge, found small"):
        run_load(LoadPlan(url=server.url, model="huge"), Console(stderr=True))


def test_a_server_without_models_is_named(server: FakeOpenAI) -> None:
    server.models = []
    with pytest.raises(UsageError, match="found no model"):
        run_load(LoadPlan(url=server.url), Console(stderr=True))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "Connect call failed"),
        ("nowhere", "no address such as http://"),
        ("127.0.0.1:8000", "no address such as http://"),
        ("ftp://x", "no address such as http://"),
        ("http://" + "x" * 300, "encoding with 'idna' codec failed"),
    ],
)
def test_a_server_that_cannot_be_reached_is_named(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"{url}/v1/models: asked for a server, found: {said}"):
        run_load(LoadPlan(url=url), Console(stderr=True))


def test_a_missing_trace_is_an_error_before_anything_is_sent(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    with pytest.raises(TraceError, match=r"absent\.csv"):
        run_load(LoadPlan(url=server.url, source=tmp_path / "absent.csv"), Console(stderr=True))
    assert server.bodies == []


def test_a_trace_is_brought_to_the_rate_and_cut_at_the_duration(trace: Path) -> None:
    arrivals = plan_arrivals(LoadPlan(url="", source=trace, rate_rps=2.0))
    assert (len(arrivals) - 1) / arrivals[-1].at_s == pytest.approx(2.0)
    cut = plan_arrivals(LoadPlan(url="", source=trace, rate_rps=2.0, duration_s=0.9))
    assert cut == arrivals[:2]


def test_a_load_without_requests_is_refused() -> None:
    with pytest.raises(UsageError, match="none due by then"):
        plan_arrivals(LoadPlan(url="", rate_rps=0.001, duration_s=0.01))


def test_a_synthetic_minute_without_a_request_is_refused() -> None:
    with pytest.raises(UsageError, match="within 60 s, found none"):
        plan_arrivals(LoadPlan(url="", rate_rps=0.0001))


def test_a_load_too_large_for_memory_is_refused() -> None:
    for rate_rps, duration_s in ((1e300, 1.0), (1e-9, 1e12)):
        with pytest.raises(UsageError, match="found room for"):
            plan_arrivals(LoadPlan(url="", rate_rps=rate_rps, duration_s=duration_s))
    with pytest.raises(UsageError, match="found room for"):
        poisson(Arrival(0.0, 1, 1), 1e300, 1.0, seed=0)
