"""Rows of a job are read until the loader is told to stop."""

from __future__ import annotations

import gzip
from itertools import count
from pathlib import Path

import pytest

from steppe.batch.job import JobState
from steppe.batch.local.folder import JobSpec, create_folder
from steppe.batch.local.loading import load_rows
from steppe.batch.rows.options import RowOptions


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.csv.gz"])
def test_a_loader_that_is_told_to_stop_reads_no_more_empty_lines(tmp_path: Path, name: str) -> None:
    head = b"prompt\n" if "csv" in name else b""
    path = tmp_path / name
    path.write_bytes(gzip.compress(head + b"\n" * (4 << 20)))
    options = RowOptions(model="m", endpoint="/v1/completions")
    spec = JobSpec(path, tmp_path / "out.jsonl", tmp_path / "errors.jsonl", options)
    with create_folder(spec) as folder:
        asked = count()
        load_rows(folder.store, folder.job(), is_stopped=lambda: next(asked) >= 2)
        assert next(asked) <= 6, "it stopped soon"
        assert folder.job().state is JobState.VALIDATING
