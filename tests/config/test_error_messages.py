"""What `load_config` accepts and refuses, and that an error is one line that says what to do."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from steppe.config import ModelledSection, RunConfig, load_config, shipped_config
from steppe.config.serving import EngineSection
from steppe.errors import ConfigError

VALUES: dict[str, dict[str, Any]] = {
    "model": {"name": "tiny"},
    "device": {"kind": "emulated"},
    "power": {"supply": [{"kind": "constant", "watts": 100}]},
    "frontier": {"sweep": {}},
}


def loaded(folder: Path, changes: dict[str, Any]) -> RunConfig:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(VALUES | changes))
    return load_config(path)


def refusal(folder: Path, changes: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, changes)
    return str(caught.value).removeprefix(f"{folder / 'run.yaml'}: ")


def supply(*sources: object, **power: object) -> dict[str, Any]:
    return {"power": {"supply": list(sources), **power}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"modle": {"name": "x"}}, "modle: unknown key, did you mean model?"),
        ({"modle": {"name": "x"}, "model": {}}, "modle: unknown key, did you mean model?"),
        ({"control": {"polcy": 1}}, "control.polcy: unknown key, did you mean policy?"),
        ({"device": {"knd": "nvml"}}, "device.knd: unknown key, did you mean kind?"),
        ({"device": {"kind": "nvml", "nvml": 1}}, "device.nvml: unknown key"),
        (
            supply({"kind": "wind", "rated_w": 1, "staton": "x"}),
            "power.supply.0.staton: unknown key, did you mean station?",
        ),
        ({"site": {"colour": 1}}, "site.colour: unknown key"),
        ({"site": {5: 1}}, "site.5: unknown key"),
        ({"model": {}}, "model.name: missing"),
    ],
)
def test_an_unknown_key_comes_first_with_the_key_it_may_mean(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    assert refusal(tmp_path, changes) == says


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"device": {"gpu": "h100"}}, "device.kind: missing: asked for 'nvml', 'emulated' or"),
        ({"device": {"kind": "l4"}}, "device.kind: asked for 'nvml', 'emulated' or 'modelled', f"),
        ({"device": None}, "device: asked for a mapping, found nothing"),
        (supply({"kind": "sun"}), "power.supply.0.kind: asked for 'constant', 'share_of_rated', "),
        (supply(5), "power.supply.0: asked for a mapping, found 5"),
        (supply(), "power.supply: asked for a list of at least 1, found an empty list"),
        ({"power": {"supply": {}}}, "power.supply: asked for a list, found a mapping"),
        (
            supply({"kind": "wind", "rated_w": 1, "station": "x"}),
            "power.supply.0.station: asked for 'greensboro' or 'sand_point', found 'x'",
        ),
        ({"engine": {"kind": "transformers"}, "fleet": {"gpus_per_replica": 2}}, "engine.kind tr"),
        (
            {"fleet": {"sleep": [{"kind": "node_off"}]}},
            "fleet.sleep: node_off needs stopped: engines of a node that comes back are stopped",
        ),
        (
            {"fleet": {"sleep": [{"kind": "stopped"}, {"kind": "offloaded"}]}},
            "fleet.sleep: asked for each of offloaded, stopped, node_off at most once, in this ord",
        ),
        (
            {
                "fleet": {
                    "sleep": [{"kind": "offloaded", "wake_s": 9}, {"kind": "stopped", "wake_s": 8}]
                }
            },
            "fleet.sleep: asked for wake_s that rise and gpu_w that fall with the depth",
        ),
    ],
)
def test_a_value_of_another_type_is_named_by_its_key_in_the_file(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    assert refusal(tmp_path, changes).startswith(says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ("fleet.replicas", "a whole number or 'all', found 'some'"),
        ("fleet.gpus_per_replica", "a whole number, found 1.5"),
        ("control.period_s", "a number, found True"),
        ("control.lead_s", "a number, found '1'"),
        ("control.dwell_s", "a finite number, found inf"),
        ("control.over_share", "a number above 0, found 0"),
        ("load.seed", "a number of at least 0, found -1"),
        ("load.daily_depth", "a number below 1, found 1"),
        ("gateway.port", "a number of at most 65535, found 65536"),
        ("control.period_s", "a number of at most 60, found 1000000000.0"),
        ("control.period_s", "a number of at least 0.5, found 0.25"),
        ("power.reserve_w", "a number of at most 1000000000000, found 1e+300"),
        ("power.speedup", "a number of at most 1000000, found 1e+100"),
        ("site.pue", "a number of at most 100, found 1000"),
        ("gateway.host", "a text that is not empty, found ''"),
        ("gateway.host", "an address or the name of a host, found '999.1.1.1'"),
        ("gateway.host", "an address or the name of a host, found 'a b'"),
        ("gateway.host", "an address or the name of a host, found 'http://a'"),
        ("model.name", "a text, found 5"),
        ("frontier.file", "a path, found 5"),
        ("ray.address", "local, auto or HOST:PORT, found 'bogus'"),
    ],
)
def test_a_value_out_of_range_is_shown_with_the_range(
    tmp_path: Path, changes: str, says: str
) -> None:
    section, key = changes.split(".")
    found = yaml.safe_load(says.rpartition("found ")[2].replace("inf", ".inf"))
    changes_of = VALUES.get(section, {}) if section == "power" else {}
    assert refusal(tmp_path, {section: changes_of | {key: found}}) == f"{changes}: asked for {says}"


def test_a_tick_longer_than_a_battery_sustains_is_refused(tmp_path: Path) -> None:
    steady = {"kind": "constant", "watts": 1}
    battery = {"capacity_wh": 1, "max_charge_w": 1, "max_discharge_w": 1}
    changes = supply(steady, battery=battery, speedup=1801) | {"control": {"period_s": 2}}
    said = refusal(tmp_path, changes)
    assert said == (
        "power.speedup: asked for at most 3600 s of trace in a tick with a battery, found 3602 s"
    )
    assert loaded(tmp_path, changes | supply(steady, battery=battery, speedup=1800))
    assert loaded(tmp_path, changes | supply(steady, speedup=1801))


def test_shares_without_a_sum_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, {"load": {"priorities": {"standard": 0}}})
    assert said == "load.priorities: asked for shares with a sum above 0"


@pytest.mark.parametrize("start", [5, "5", "tomorrow", True])
def test_a_start_that_is_not_a_date_is_refused(tmp_path: Path, start: object) -> None:
    said = refusal(tmp_path, supply({"kind": "constant", "watts": 1}, start=start))
    assert said == f"power.start: asked for a date and time in ISO 8601, found {start!r}"


@pytest.mark.parametrize(
    ("start", "meant"),
    [
        (datetime(2001, 9, 5, 9), datetime(2001, 9, 5, 9)),
        (date(2001, 9, 5), datetime(2001, 9, 5)),
        ("2001-09-05T09:00Z", datetime(2001, 9, 5, 9, tzinfo=UTC)),
    ],
)
def test_a_start_may_be_a_date_with_or_without_a_time(
    tmp_path: Path, start: object, meant: datetime
) -> None:
    config = loaded(tmp_path, supply({"kind": "constant", "watts": 1}, start=start))
    assert config.power.start == meant


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.1:6379", "[::1]:6379", "head:6379"])
def test_a_ray_address_has_the_form_that_ray_uses(tmp_path: Path, address: str) -> None:
    assert loaded(tmp_path, {"ray": {"address": address}}).ray.address == address


@pytest.mark.parametrize("address", ["ray://head:10001", "ray://head", "tcp://10.0.0.1:6379"])
def test_a_ray_client_address_is_refused_with_a_hint(tmp_path: Path, address: str) -> None:
    assert refusal(tmp_path, {"ray": {"address": address}}) == (
        "ray.address: a run is driven from a node of its cluster, not through Ray Client: "
        f"run `steppe serve` there, with auto or HOST:PORT, found '{address}'"
    )


def test_relative_paths_are_relative_to_the_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").touch()
    (tmp_path / "rig.yaml").touch()
    device = {"kind": "modelled", "gpu": "rig.yaml"}
    config = loaded(tmp_path, {"model": {"name": "mine"}, "device": device})
    assert config.model.name == str(tmp_path / "mine")
    assert isinstance(config.device, ModelledSection)
    assert config.device.gpu == str(tmp_path / "rig.yaml")
    assert loaded(tmp_path, {"model": {"name": "llama-3.1-8b"}}).model.name == "llama-3.1-8b"


def test_a_repeated_batch_limit_is_measured_once(tmp_path: Path) -> None:
    config = loaded(tmp_path, {"frontier": {"sweep": {"batch_limits": [8, 4, 8]}}})
    assert config.frontier.sweep is not None
    assert config.frontier.sweep.batch_limits == (8, 4)
    assert "at least 1, found an empty" in refusal(
        tmp_path, {"frontier": {"sweep": {"batch_limits": []}}}
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "fe80::1%eth0", "localhost", "gpu-1.lab"])
def test_a_gateway_host_is_an_address_or_a_host_name(tmp_path: Path, host: str) -> None:
    given = {"gateway": {"host": host, "allow_without_keys": True}}
    assert loaded(tmp_path, given).gateway.host == host


def test_whole_numbers_and_exponents_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(VALUES) + "control: {period_s: 2, over_share: 5e-5}\n")
    control = load_config(path).control
    assert (control.period_s, control.over_share) == (2.0, 5e-5)


def test_a_duplicate_key_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {name: a}\nsite:\n  pue: 1\n  pue: 2\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: pue: given in line 3 and again in line 4"
    path.write_text("model: {name: a}\nmodel: {name: b}\n")
    with pytest.raises(ConfigError, match="model: given in line 1 and again in line 2"):
        load_config(path)


@pytest.mark.parametrize("number", ["010", "-07", "1:30", "1:30.5"])
def test_octal_and_sexagesimal_numbers_are_refused(tmp_path: Path, number: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"sim:\n  duration_s: {number}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: line 2: asked for a decimal number, found {number}"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("!!int [1]", "not YAML: expected a scalar node, but found sequence"),
        ("!!float {b: 1}", "not YAML: expected a scalar node, but found mapping"),
        ("!!int ''", "line 1: asked for a value of !!int, found ''"),
        ("!!float ''", "line 1: asked for a value of !!float, found ''"),
        ("!!bool x", "line 1: asked for a value of !!bool, found 'x'"),
        ("[1, !!timestamp x]", "line 1: asked for a value of !!timestamp, found 'x'"),
        ("!!int x", "not YAML: invalid literal for int() with base 10: 'x'"),
    ],
)
def test_a_tag_that_does_not_fit_its_value_is_refused(
    tmp_path: Path, value: str, says: str
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"a: {value}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: {says}")


def test_a_file_with_too_many_levels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("a: " + "[" * 3000 + "]" * 3000)
    with pytest.raises(ConfigError, match="asked for a few levels of nesting, found too many"):
        load_config(path)


def test_a_merged_mapping_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(VALUES) + "slo: {<<: {ttft_s: 9}, ttft_s: 1}\n")
    assert load_config(path).slo.ttft_s == 1


def test_all_shipped_configurations_load() -> None:
    for name in ("demo.yaml", "tool_calls.yaml", "windy_day.yaml"):
        assert load_config(shipped_config(name)).power.supply


def test_automatic_tool_calls_need_a_parser() -> None:
    args = {"enable_auto_tool_choice": True}
    with pytest.raises(ValueError, match=r"needs args\.tool_call_parser, found none"):
        EngineSection(args=args)
    assert EngineSection(args={**args, "tool_call_parser": "hermes"}).args


def test_a_traffic_with_a_trace_file_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, {"load": {"trace": "a.csv", "traffic": "summaries"}})
    assert said == "load: asked for a traffic with trace: synthetic, found a trace file"


def test_an_unknown_traffic_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    said = refusal(tmp_path, {"load": {"traffic": "chat"}})
    assert said.startswith("load.traffic: asked for 'conversation', 'code_completion'")


def test_changes_of_traffic_out_of_order_are_refused(tmp_path: Path) -> None:
    changes = [{"at_s": 9, "traffic": "summaries"}, {"at_s": 5, "traffic": "agents"}]
    said = refusal(tmp_path, {"load": {"traffic_changes": changes}})
    assert said == "load: traffic_changes: asked for rising times, found [9.0, 5.0]"


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("scheduler_cls", "Steppe's own scheduler"),
        ("max_num_seqs", "engine.max_batch_limit"),
        ("max-num-batched-tokens", "engine.max_tokens_per_step"),
        ("max_num_batched", "engine.max_tokens_per_step"),
        ("tensor_parallel_size", "fleet.gpus_per_replica"),
        ("pipeline_parallel_size", "fleet.gpus_per_replica"),
        ("data_parallel_size", "fleet.replicas"),
        ("served_model_name", "model.served_name"),
        ("model", "model.name"),
        ("max_model_len", "model.max_model_len"),
        ("kv_cache_memory_bytes", "engine.kv_cache_bytes"),
        ("kv_offloading_size", "engine.kv_host_bytes"),
        ("port", "gateway"),
        ("host", "gateway"),
    ],
)
def test_an_argument_of_vllm_that_steppe_sets_is_refused_with_the_key_to_use(
    name: str, instead: str
) -> None:
    with pytest.raises(ValueError, match=rf"args\.{name}: Steppe sets it; use .*{instead}"):
        EngineSection(args={"enforce_eager": True, name: 1})


def test_arguments_of_vllm_that_only_look_alike_pass() -> None:
    args = {"model_impl": "vllm", "async_scheduling": True, "max_num_partial_prefills": 2}
    assert EngineSection(args=args).args == args
