from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray
from tests.fixtures.ray_actors import FakeActor

from steppe.config import RunConfig
from steppe.errors import ModelError
from steppe.fleet.cluster import Machine
from steppe.fleet.driver import model_downloads
from steppe.fleet.driver.model_downloads import NOTHING_TO_GET, ModelDownloads

NODES = [Machine(f"n{number}", f"10.0.0.{number}", 8) for number in range(1, 5)]


def downloads_of(model: str, **engine: Any) -> ModelDownloads:
    values = {
        "model": {"name": model},
        "engine": engine,
        "device": {"kind": "nvml"},
        "power": {"supply": [{"kind": "constant", "watts": 100}]},
    }
    return ModelDownloads(RunConfig.model_validate(values))


class FakeRemote:
    """Makes a fake actor where Ray would make one; its download takes until a test ends it."""

    def __init__(self) -> None:
        self.actors: list[FakeActor] = []

    def __call__(self, _: type) -> Any:
        return self

    def options(self, **_: Any) -> Any:
        return self

    def remote(self) -> Any:
        self.actors.append(FakeActor({"get": "/cache/model"}, ready=False))
        return self.actors[-1]


@pytest.fixture
def remote(fake_ray: None, monkeypatch: pytest.MonkeyPatch) -> FakeRemote:
    made = FakeRemote()
    monkeypatch.setattr(ray, "remote", made)
    monkeypatch.setattr(model_downloads, "on_node", str)
    return made


def test_each_node_gets_the_model_once_for_all_its_replicas(remote: FakeRemote) -> None:
    downloads = downloads_of("someone/model")
    calls = [downloads.folder_on(node) for node in NODES for _ in range(8)]
    assert len(remote.actors) == 4
    assert len({id(call) for call in calls}) == 4


def test_a_slow_download_does_not_delay_the_other_nodes(remote: FakeRemote) -> None:
    downloads = downloads_of("someone/model")
    for node in NODES:
        downloads.folder_on(node)
    assert not downloads.has_any
    *fast, slow = remote.actors
    for actor in fast:
        actor.calls[0].ready = True
    slow.ready, slow.answers["progress"] = True, "downloading someone/model: 1.00 of 4.00 GB"
    assert downloads.has_any
    assert downloads.line() == (
        "3 of 4 nodes have the model; 10.0.0.4: downloading someone/model: 1.00 of 4.00 GB"
    )


def test_the_wait_ends_when_every_download_has_failed(remote: FakeRemote) -> None:
    downloads = downloads_of("someone/model")
    downloads.folder_on(NODES[0])
    call = remote.actors[0].calls[0]
    call.answer, call.ready = ray.exceptions.RayTaskError("get", "", ModelError("no net")), True
    assert downloads.has_any, "the engines report it"
    assert downloads.line() == ""


def test_a_folder_and_an_engine_without_a_model_need_no_download(
    remote: FakeRemote, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    for downloads in (downloads_of(str(tmp_path)), downloads_of("any", kind="synthetic")):
        assert downloads.folder_on(NODES[0]) == NOTHING_TO_GET
        assert not downloads.is_needed
    assert remote.actors == []
