"""Weights that are missing, have no room, or do not fit the GPUs are found before a start."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.run.doctor.made_up import gpus

from steppe.models.hub import HubAnswer
from steppe.run.doctor.finding import Level
from steppe.run.doctor.model import (
    WeightFacts,
    check_disk,
    check_hub,
    check_memory,
    read_weights,
    size_of,
)

NAME = "Qwen/Qwen3-32B"
MISSING = WeightFacts("/cache", None, 200 * 10**9, True)


def test_weights_that_are_here_are_read_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(5000))
    found = read_weights(str(tmp_path))
    assert (found.here_bytes, found.is_from_hub) == (5000, False)
    assert size_of(str(tmp_path), found, None) == 5000
    assert check_disk(str(tmp_path), found, 5000).level is Level.OK


def test_the_size_is_that_on_disk_or_of_the_hub_or_of_the_shape() -> None:
    assert size_of(NAME, MISSING, HubAnswer(65_524_246_528)) == 65_524_246_528
    assert size_of(NAME, MISSING, None) == pytest.approx(65.5e9, rel=0.01)
    assert size_of("nobody/knows", MISSING, None) is None


@pytest.mark.parametrize(
    ("free_gb", "size_gb", "level"),
    [(200, 65.5, Level.OK), (40, 65.5, Level.FATAL), (40, None, Level.UNKNOWN)],
)
def test_weights_need_room_on_the_disk(free_gb: float, size_gb: float | None, level: Level) -> None:
    facts = WeightFacts("/cache", None, int(free_gb * 1e9), True)
    finding = check_disk(NAME, facts, None if size_gb is None else size_gb * 1e9)
    assert finding.level is level
    if level is Level.FATAL:
        assert finding.found == "40 GB free in /cache, the weights take 66 GB"


def test_without_the_hubs_client_the_place_of_the_weights_is_unknown() -> None:
    facts = WeightFacts("", None, 0, True)
    assert check_disk(NAME, facts, 65.5e9).level is Level.UNKNOWN


@pytest.mark.parametrize(("each", "level"), [(1, Level.OK), (2, Level.OK)])
def test_weights_that_fit_the_gpus_are_fine(each: int, level: Level) -> None:
    (finding,) = check_memory(65.5e9, gpus(), each)
    assert finding.level is level


def test_weights_that_do_not_fit_the_gpus_are_fatal() -> None:
    (finding,) = check_memory(145e9, gpus(), 1)
    assert finding.level is Level.FATAL
    assert finding.found.startswith("145.0 GB of weights, 79 GB of GPU memory for a replica")
    assert "fleet.gpus_per_replica" in finding.advice
    assert check_memory(None, gpus(), 1) == []


def test_a_hub_without_an_answer_is_a_warning_that_says_what_to_do() -> None:
    finding = check_hub(NAME, HubAnswer(unreachable="no answer within 4 s"))
    assert finding.level is Level.WARNING
    assert "hf download Qwen/Qwen3-32B --local-dir DIR" in finding.advice


def test_a_model_that_may_not_be_downloaded_is_fatal() -> None:
    finding = check_hub(NAME, HubAnswer(refused="its licence has to be accepted first"))
    assert finding.level is Level.FATAL
    assert "https://huggingface.co/Qwen/Qwen3-32B" in finding.advice
    assert check_hub(NAME, HubAnswer(65_524_246_528)).found.endswith("(65.5 GB)")
