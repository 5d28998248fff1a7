from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steppe.config import parse_config
from steppe.errors import ConfigError

SMALL: dict[str, Any] = {
    "name": "none",
    "served_name": "small",
    "replicas": 2,
    "engine": {"kind": "synthetic", "max_batch_limit": 8},
    "slo": {"ttft_s": 1.0},
}
LARGE: dict[str, Any] = {
    "name": "none",
    "served_name": "large",
    "replicas": 1,
    "gpus_per_replica": 2,
    "weight": 3.0,
}
REST: dict[str, Any] = {
    "engine": {"kind": "synthetic", "max_batch_limit": 4},
    "device": {"kind": "emulated", "profile": "l4", "count": 4},
    "power": {"supply": [{"kind": "constant", "watts": 100}]},
}


def parse(**values: Any) -> Any:
    return parse_config({**REST, **values}, "file.yaml", Path("."))


def test_each_model_has_a_configuration_of_its_own() -> None:
    pools = parse(models=[SMALL, LARGE]).pools
    assert list(pools) == ["small", "large"]
    small, large = pools["small"], pools["large"]
    assert (small.fleet.replicas, small.fleet.gpus_per_replica) == (2, 1)
    assert (large.fleet.replicas, large.fleet.gpus_per_replica) == (1, 2)
    assert (small.engine.max_batch_limit, large.engine.max_batch_limit) == (8, 4)
    assert (small.slo.ttft_s, large.slo.ttft_s) == (1.0, 2.0)
    assert (small.model.weight, large.model.weight) == (1.0, 3.0)
    assert small.models == ()


def test_a_single_model_is_one_pool() -> None:
    config = parse(model={"name": "none", "served_name": "only"})
    assert config.pools == {"only": config}


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([SMALL, SMALL], "models: 'small' is there twice; give one a served_name"),
        ([{**SMALL, "name": 1}], "models.0.name: asked for a text, found 1"),
        ([{"name": "none"}], "models.0.replicas: missing"),
        ([{**SMALL, "size": 1}], "models.0.size: unknown key"),
    ],
)
def test_a_wrong_model_is_refused_in_one_line(models: list[Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(models=models)
    assert message in str(error.value)


def test_model_and_models_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="give model or models, not both"):
        parse(model={"name": "none"}, models=[SMALL])


ALIAS = {"assistant": ["large", "small"]}


def test_an_alias_lists_its_variants_best_first() -> None:
    config = parse(models=[SMALL, {**LARGE, "load": {"alias": "assistant"}}], aliases=ALIAS)
    assert config.aliases == {"assistant": ("large", "small")}
    assert config.pools["large"].load.alias == "assistant"


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ({"assistant": ["large", "huge"]}, "asked for huge, found models: small, large"),
        ({"assistant": ["large"]}, "aliases.assistant: asked for two or more different models"),
        ({"assistant": ["large", "large"]}, "asked for two or more different models"),
        ({"small": ["large", "small"]}, "aliases: 'small' is the name of a model"),
    ],
)
def test_a_wrong_alias_is_refused_in_one_line(aliases: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(models=[SMALL, LARGE], aliases=aliases)
    assert message in str(error.value)


def test_a_load_asks_for_a_known_alias() -> None:
    with pytest.raises(ConfigError, match="asked for helper, found aliases: assistant"):
        parse(models=[SMALL, {**LARGE, "load": {"alias": "helper"}}], aliases=ALIAS)
