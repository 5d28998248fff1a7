"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = [
    "tests.fixtures.emulated_node",
    "tests.fixtures.openai_server",
    "tests.fixtures.ray_actors",
    "tests.fixtures.synthetic_server",
    "tests.fixtures.virtual_gpu",
]

# A slow or busy machine is no reason for a property to fail, and a run is the same every time;
# `--hypothesis-profile=explore` looks further.
settings.register_profile("steppe", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("steppe")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--nvml-library",
        type=Path,
        default=Path("libnvidia-ml.so.1"),
        help="The NVML library that the GPU suite loads; the driver's own by default.",
    )


LONGEST_FIRST = (
    "tests/cluster",
    "tests/docs/test_fleet_commands.py",
    "tests/engine",
    "tests/bench",
    "tests/run",
)
"""Where the tests are that take longest: they begin first, so that no worker ends long after the
others (`--dist loadfile --no-loadscope-reorder`)."""
SLOW_TIMEOUT_S = 600.0
"""Timeout of slow tests without one of their own: 15 s alone may be minutes beside other work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests time, and put the longest first; the order within a file stays."""
    for item in items:
        is_slow = item.get_closest_marker("slow") or item.get_closest_marker("cluster")
        if is_slow and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))

    def rank(item: pytest.Item) -> int:
        places = [n for n, place in enumerate(LONGEST_FIRST) if item.nodeid.startswith(place)]
        return places[0] if places else len(LONGEST_FIRST)

    items.sort(key=rank)


@pytest.fixture
def hears_hangups() -> Iterator[None]:
    """Let SIGHUP end this process as usual, although the tests may run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
