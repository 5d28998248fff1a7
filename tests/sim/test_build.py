"""What a run configuration means to the simulator."""

from __future__ import annotations

from typing import Any

import pytest

from steppe.config import RunConfig
from steppe.engine.synthetic import CHUNK_TOKENS
from steppe.errors import ConfigError, ModelError
from steppe.load.arrivals import Arrival
from steppe.roofline.files import read_roofline
from steppe.roofline.lengths import RequestLengths
from steppe.sim.build import fleet_of, kind_of, modelled_replica, scenario_of
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.points import modelled_frontier
from steppe.sim.run import Scenario

EMULATED = {"kind": "emulated", "profile": "l4"}
LENGTHS = RequestLengths(100, 30)


def config_of(**parts: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": "llama-3.1-8b"},
            "fleet": {"replicas": 3},
            "device": EMULATED,
            "power": {"supply": [{"kind": "constant", "watts": 300}]},
            "frontier": {"sweep": {}},
        }
        | parts
    )


def scenario(config: RunConfig, *arrivals: Arrival) -> Scenario:
    kind = kind_of(config, modelled_replica(config, LENGTHS))
    frontier = modelled_frontier(kind, (1020, 2040), (4, 16), LENGTHS)
    return scenario_of(config, fleet_of(config, kind), frontier, arrivals)


def test_a_synthetic_engine_takes_the_chunks_of_the_live_one() -> None:
    kind = kind_of(
        config := config_of(engine={"kind": "synthetic"}), modelled_replica(config, LENGTHS)
    )
    assert kind.engine.chunk_tokens == CHUNK_TOKENS


def test_an_engine_computes_no_more_tokens_in_a_step_than_configured() -> None:
    config = config_of(engine={"max_tokens_per_step": 512}, sim={"kv_tokens": 9000})
    kind = kind_of(config, modelled_replica(config, LENGTHS))
    assert kind.engine == BatchLimits(512, kind.engine.chunk_tokens, 9000)


def test_modelled_gpus_hold_what_their_memory_leaves_beside_the_weights() -> None:
    config = config_of(device={"kind": "modelled", "gpu": "h100"})
    kind = kind_of(config, modelled_replica(config, LENGTHS))
    # 80 GB less 16 GB of weights, at 128 KiB of keys and values a token.
    assert 300_000 < kind.engine.kv_tokens < 500_000
    assert kind.weights.prompt < kind.weights.decode


@pytest.mark.parametrize(
    ("gpus", "sim", "tokens"), [(1, {}, 8192), (2, {}, 16384), (2, {"kv_tokens": 5000}, 5000)]
)
def test_a_kv_cache_of_some_bytes_on_each_gpu_holds_so_many_tokens(
    gpus: int, sim: dict[str, int], tokens: int
) -> None:
    # 32 layers of 8 heads of 128 keys and values of 2 bytes: 128 KiB a token.
    config = config_of(
        engine={"kv_cache_bytes": 1 << 30},
        sim=sim,
        fleet={"gpus_per_replica": gpus},
        device={"kind": "modelled", "gpu": "h100"},
    )
    assert kind_of(config, modelled_replica(config, LENGTHS)).engine.kv_tokens == tokens


def test_windows_and_states_let_more_sequences_in_the_longer_they_are() -> None:
    config = config_of(model={"name": "gemma-3-27b"}, device={"kind": "modelled", "gpu": "h100"})
    roofline = read_roofline("gemma-3-27b", "h100", 1)
    for lengths in (RequestLengths(12_000, 500), RequestLengths(100_000, 211)):
        context = lengths.prompt_tokens + lengths.output_tokens / 2
        kind = kind_of(config, modelled_replica(config, lengths))
        said = roofline.running_sequences(1_000_000, lengths.prompt_tokens, lengths.output_tokens)
        assert kind.engine.kv_tokens / context == pytest.approx(said, rel=0.02)


def test_all_replicas_are_as_many_as_the_emulated_gpus_hold() -> None:
    config = config_of(
        fleet={"replicas": "all", "gpus_per_replica": 2}, device=EMULATED | {"count": 8}
    )
    assert fleet_of(config, kind_of(config, modelled_replica(config, LENGTHS))).replicas == 4


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"device": {"kind": "nvml"}}, r"device\.kind: .*found nvml"),
        ({"device": EMULATED | {"pace": {"weights_s": 0}}}, r"device\.pace\.weights_s"),
        (
            {"device": {"kind": "modelled"}, "fleet": {"replicas": "all"}},
            r"fleet\.replicas: a simulation needs a number",
        ),
        ({"engine": {"max_tokens_per_step": 16}}, r"engine\.max_tokens_per_step"),
        ({"sim": {"kv_tokens": 100}}, r"sim\.kv_tokens: a request needs 150, found 100"),
        ({"sim": {"failures": [{"at_s": 1, "replica": 4}]}}, r"sim\.failures: replica 4 of 3"),
    ],
)
def test_what_cannot_be_simulated_names_the_key(parts: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        scenario(config_of(**parts), Arrival(1.0, 100, 50))


def test_modelled_gpus_need_a_known_model() -> None:
    config = config_of(model={"name": "nobody/knows"}, device={"kind": "modelled"})
    with pytest.raises(ModelError, match="nobody/knows"):
        modelled_replica(config, LENGTHS)
