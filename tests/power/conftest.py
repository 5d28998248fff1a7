from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from steppe.config import TraceSupply

WriteTrace = Callable[..., TraceSupply]


@pytest.fixture
def write_trace(tmp_path: Path) -> WriteTrace:
    """Write rows of `time_utc,p_kw` and return the section that names the file."""

    def write(*rows: str, name: str = "trace.csv", rated_w: float | None = None) -> TraceSupply:
        path = tmp_path / name
        path.write_text("\n".join(["time_utc,p_kw", *rows]) + "\n")
        return TraceSupply(kind="trace", path=path, rated_w=rated_w)

    return write


@pytest.fixture
def wind_farm() -> Path:
    """Return the recorded wind farm, or skip."""
    name = "la_haute_borne_wind_8.2MW_10min_2014.csv.gz"
    path = Path(__file__).parents[3] / "shared" / "data" / "renewable" / name
    if not path.is_file():
        pytest.skip("the recorded wind farm is not beside the repository")
    return path
