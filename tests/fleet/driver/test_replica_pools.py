from __future__ import annotations

from typing import Any

import pytest

from steppe.config import RunConfig
from steppe.errors import ConfigError, ReplicaError
from steppe.fleet.cluster import Machine
from steppe.fleet.driver.replica_pools import ReplicaPools
from steppe.fleet.messages import GpuInfo

L4, H100 = GpuInfo(0, "NVIDIA L4", ()), GpuInfo(1, "NVIDIA H100 80GB HBM3", ())
NODE = Machine("n", "10.0.0.5", 4)


def pools_of(*models: dict[str, Any], **more: Any) -> ReplicaPools:
    values: dict[str, Any] = {
        "device": {"kind": "nvml"},
        "power": {"supply": [{"kind": "constant", "watts": 100}]},
        "models": [{"name": "none", **model} for model in models],
        **more,
    }
    return ReplicaPools(RunConfig.model_validate(values))


def test_replicas_are_named_over_all_models_and_know_their_own() -> None:
    pools = pools_of(
        {"served_name": "small", "replicas": 2},
        {"served_name": "large", "replicas": 1, "gpus_per_replica": 2},
    )
    names = pools.name_replicas([NODE], {"n": 4})
    assert [pools.model_of(name) for name in names] == ["small", "small", "large"]
    assert pools.config_of("replica-3").fleet.gpus_per_replica == 2


def test_more_replicas_than_the_gpus_hold_are_refused() -> None:
    pools = pools_of(
        {"served_name": "small", "replicas": 3},
        {"served_name": "large", "replicas": 1, "gpus_per_replica": 2},
    )
    with pytest.raises(ConfigError, match="models: asked for 5 GPUs in all, found 4, 4 free"):
        pools.name_replicas([NODE], {"n": 4})


@pytest.mark.parametrize(
    ("models", "gpus", "name"),
    [
        (["only"], [L4], ""),
        (["only"], [L4, H100], "only on NVIDIA L4"),
        (["only", "other"], [L4], "only"),
        (["only", "other"], [L4, H100], "only on NVIDIA L4"),
    ],
)
def test_a_pool_is_named_by_what_differs_in_the_fleet(
    models: list[str], gpus: list[GpuInfo], name: str
) -> None:
    pools = pools_of(*({"served_name": model, "replicas": 1} for model in models))
    pools.name_replicas([NODE], {"n": 4})
    pools.find_kinds(gpus)
    assert pools.pool_of("replica-1", [L4]) == name


def test_an_alias_needs_one_kind_of_gpu() -> None:
    models = [{"served_name": name, "replicas": 1} for name in ("large", "small")]
    pools = pools_of(*models, aliases={"assistant": ["large", "small"]})
    pools.name_replicas([NODE], {"n": 4})
    with pytest.raises(ConfigError, match="assistant on one kind of GPU, found NVIDIA H100"):
        pools.find_kinds([L4, H100])


def test_a_kind_of_gpu_without_operating_points_is_refused() -> None:
    pools = pools_of({"served_name": "only", "replicas": 1})
    pools.name_replicas([NODE], {"n": 4})
    pools.find_kinds([L4])
    with pytest.raises(ReplicaError, match="found NVIDIA H100 80GB HBM3, and the run has"):
        pools.pool_of("replica-1", [H100])
