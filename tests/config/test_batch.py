from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steppe.config import RunConfig, parse_config
from steppe.errors import ConfigError


def parsed(batch: dict[str, Any] | None, folder: Path = Path("/runs")) -> RunConfig:
    values: dict[str, Any] = {
        "model": {"name": "m"},
        "device": {"kind": "emulated", "profile": "h100", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
    }
    return parse_config(values if batch is None else {**values, "batch": batch}, "run", folder)


def test_without_the_section_there_is_no_batch_api() -> None:
    assert parsed(None).batch is None


def test_folder_and_store_are_relative_to_the_file_and_a_url_is_not(tmp_path: Path) -> None:
    batch = parsed({"folder": "batch", "store": "jobs.db"}, tmp_path).batch
    assert batch is not None
    assert (batch.folder, batch.store) == (tmp_path / "batch", str(tmp_path / "jobs.db"))
    batch = parsed({"folder": "/batch", "store": "postgresql+psycopg://db/steppe"}, tmp_path).batch
    assert batch is not None
    assert (batch.folder, batch.store) == (Path("/batch"), "postgresql+psycopg://db/steppe")


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ({}, "batch.folder"),
        ({"folder": "b", "rows": 5}, "batch.rows"),
        ({"folder": "b", "lines": 0}, "batch.lines"),
        ({"folder": "b", "least_window_s": 7200.0, "most_window_s": 3600.0}, "at most most_window"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_key(batch: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        parsed(batch)
    assert "\n" not in str(refused.value)
