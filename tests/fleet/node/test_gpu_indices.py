from __future__ import annotations

from dataclasses import dataclass

import pytest
import ray

from steppe.engine.synthetic import SyntheticSettings
from steppe.errors import UsageError
from steppe.fleet import replica as replica_module
from steppe.fleet.replica import ReplicaActor


@dataclass
class FakeGpu:
    index: int
    uuid: str


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch) -> ReplicaActor:
    gpus = (FakeGpu(0, "GPU-aa00"), FakeGpu(1, "GPU-aa11"), FakeGpu(3, "GPU-bb00"))
    monkeypatch.setattr(replica_module, "open_gpus", lambda: gpus)
    return ReplicaActor(SyntheticSettings("tiny", 8), "127.0.0.1")


@pytest.mark.parametrize(
    ("names", "indices"),
    [
        ([0, 3], [0, 3]),
        (["0", " 1"], [0, 1]),
        (["GPU-bb00", "GPU-aa11"], [3, 1]),
        (["GPU-bb", "0"], [3, 0]),
        ([], []),
    ],
)
def test_gpus_are_found_by_index_or_uuid_as_in_cuda_visible_devices(
    replica: ReplicaActor,
    monkeypatch: pytest.MonkeyPatch,
    names: list[int | str],
    indices: list[int],
) -> None:
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: names)
    assert replica.gpu_indices() == indices


@pytest.mark.parametrize("name", ["MIG-cc00", "GPU-aa", "GPU-dd"])
def test_a_name_that_is_not_a_whole_gpu_of_this_host_is_refused(
    replica: ReplicaActor, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [name])
    says = f"asked for {name}, found whole GPUs GPU-aa00, GPU-aa11, GPU-bb00"
    with pytest.raises(UsageError, match=says):
        replica.gpu_indices()
