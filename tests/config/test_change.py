from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steppe.config import RunConfig, parse_config
from steppe.config.change import SECTIONS, changed_config, shown_section
from steppe.errors import ConfigError


@pytest.fixture
def config() -> RunConfig:
    values: dict[str, Any] = {
        "model": {"name": "tiny"},
        "device": {"kind": "emulated", "profile": "h100", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}], "speedup": 2.0},
        "control": {"period_s": 2.0},
    }
    return parse_config(values, "test", Path("/runs"))


def supply(watts: float) -> dict[str, Any]:
    return {"supply": [{"kind": "constant", "watts": watts}]}


def test_a_section_is_replaced_and_its_fixed_keys_stay(config: RunConfig) -> None:
    changed = changed_config(config, "power", {**supply(200), "fallback_w": 50})
    (source,) = changed.power.supply
    assert (source.kind, changed.power.fallback_w, changed.power.speedup) == ("constant", 50.0, 2.0)
    assert changed.control == config.control
    changed = changed_config(config, "control", {"policy": "save_energy", "margin_share": 0.1})
    assert (changed.control.policy, changed.control.period_s) == ("save_energy", 2.0)
    assert changed_config(config, "slo", {"ttft_s": 1}).slo.ttft_s == 1.0


@pytest.mark.parametrize("section", SECTIONS)
def test_what_is_shown_can_be_sent_back(config: RunConfig, section: str) -> None:
    assert changed_config(config, section, shown_section(config, section)) == config


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("power", {}, "power.supply: missing"),
        ("power", supply(-1), "power.supply.0.watts: asked for a number of at least 0, found -1"),
        ("power", {**supply(1), "fallbck_w": 1}, "power.fallbck_w: unknown key, did you mean"),
        ("power", {**supply(1), "speedup": 3}, "power.speedup: asked for what holds for the whole"),
        ("control", {"margin_share": 2}, "control.margin_share: asked for a number of at most 1"),
        (
            "control",
            {"policy": "os:system"},
            "control.policy: asked for a class of the file, found",
        ),
        ("slo", {"ttft_s": "2"}, "slo.ttft_s: asked for a number, found '2'"),
        (
            "fleet",
            {},
            "asked for a section that can change, power, control, slo, models, found",
        ),
        (
            "power",
            {"supply": [{"kind": "custom", "signal": "os:system"}]},
            "power: asked for a custom source of the file, found os:system",
        ),
    ],
)
def test_a_bad_change_is_refused_with_one_line(
    config: RunConfig, section: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        changed_config(config, section, values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_path_becomes_absolute(config: RunConfig) -> None:
    signal = {"supply": [{"kind": "signal", "path": "watts.txt"}]}
    (source,) = changed_config(config, "power", signal).power.supply
    assert source.model_dump()["path"].is_absolute()


@pytest.fixture
def two() -> RunConfig:
    values: dict[str, Any] = {
        "models": [{"name": "big", "replicas": 1}, {"name": "small", "replicas": 2, "weight": 3.0}],
        "device": {"kind": "emulated", "profile": "h100", "count": 3},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
    }
    return parse_config(values, "test", Path("/runs"))


def test_weight_and_slo_of_a_model_change_and_the_other_keeps_its_own(two: RunConfig) -> None:
    changed = changed_config(two, "models", {"big": {"weight": 2, "slo": {"ttft_s": 9}}})
    assert [pool.weight for pool in changed.models] == [2.0, 3.0]
    assert (changed.pools["big"].slo.ttft_s, changed.pools["small"].slo.ttft_s) == (9.0, 2.0)
    assert shown_section(changed, "models")["small"] == {"weight": 3.0}
    again = changed_config(changed, "models", {"big": {"weight": 4}})
    assert (again.models[0].weight, again.pools["big"].slo.ttft_s) == (4.0, 9.0)
    assert changed_config(two, "models", shown_section(two, "models")) == two


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"other": {}}, "models: asked for one of big, small, found 'other'"),
        ({"big": 1}, "models.big: asked for a mapping, found 1"),
        ({"big": {"weight": 0}}, "models.big.weight: asked for a number above 0, found 0"),
        ({"big": {"replicas": 2}}, "models.big.replicas: unknown key"),
    ],
)
def test_a_bad_change_of_a_model_is_refused(
    two: RunConfig, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        changed_config(two, "models", values)
    assert str(caught.value).startswith(message)
