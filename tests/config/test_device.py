from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from steppe.config import AGENT_SOCKET, NvmlSection, ZeusdSection, load_config
from steppe.errors import ConfigError


def load(folder: Path, device: dict[str, Any]) -> Any:
    values = {
        "model": {"name": "tiny"},
        "device": device,
        "power": {"supply": [{"kind": "constant", "watts": 100}]},
        "frontier": {"sweep": {}},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return load_config(path).device


def test_real_gpus_are_limited_by_an_agent_unless_zeusd_is_configured(tmp_path: Path) -> None:
    found = load(tmp_path, {"kind": "nvml"})
    assert found == NvmlSection(kind="nvml", agent_socket=AGENT_SOCKET, zeusd=None)
    found = load(tmp_path, {"kind": "nvml", "agent_socket": "/srv/agent.sock"})
    assert found.agent_socket == Path("/srv/agent.sock")
    found = load(tmp_path, {"kind": "nvml", "zeusd": {}})
    assert found.zeusd == ZeusdSection(socket=Path("/run/zeusd/zeusd.sock"), token_file=None)
    zeusd = {"socket": "/var/zeusd.sock", "token_file": "/etc/zeusd.token"}
    found = load(tmp_path, {"kind": "nvml", "zeusd": zeusd})
    assert found.zeusd.token_file == Path("/etc/zeusd.token")


def test_emulated_gpus_are_of_one_type_or_are_listed(tmp_path: Path) -> None:
    found = load(tmp_path, {"kind": "emulated", "profile": "h100", "count": 2})
    assert (found.gpu_types, found.spec) == (("h100", "h100"), "h100x2")
    found = load(tmp_path, {"kind": "emulated", "profiles": ["h100", "h100", "a100", "h100"]})
    assert found.gpu_types == ("h100", "h100", "a100", "h100")
    assert found.spec == "h100x2,a100x1,h100x1"
    assert found.faults_spec == ""


def test_faults_are_given_in_the_form_of_the_emulator(tmp_path: Path) -> None:
    faults: list[dict[str, Any]] = [
        {"gpu": 1, "uncorrected_ecc_errors": 2, "xid": 79},
        {"counter_scale": 0.6, "power_brake": True, "thermal_slowdown": True},
        {"gpu": 0, "neighbour_load": 0.25, "permission": False},
        {"gpu": 0},
    ]
    found = load(tmp_path, {"kind": "emulated", "count": 2, "faults": faults})
    assert found.faults_spec == (
        "1:ecc=2,1:xid=79,*:reasons=160,*:counter_scale=0.6,0:neighbour=0.25,0:no_permission=1"
    )


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (
            {"kind": "nvml", "zeusd": {"socket": "zeusd.sock"}},
            "device.zeusd.socket: each node looks for it in its own file system: give an "
            "absolute path, found 'zeusd.sock'",
        ),
        (
            {"kind": "nvml", "zeusd": {"token_file": "token"}},
            "device.zeusd.token_file: each node looks for it in its own file system: give an "
            "absolute path, found 'token'",
        ),
        (
            {"kind": "nvml", "agent_socket": "agent.sock"},
            "device.agent_socket: each node looks for it in its own file system: give an "
            "absolute path, found 'agent.sock'",
        ),
        ({"kind": "emulated", "agent_socket": "/a"}, "device.agent_socket: unknown key"),
        ({"kind": "nvml", "zeusd": {"port": 1}}, "device.zeusd.port: unknown key"),
        ({"kind": "emulated", "zeusd": {}}, "device.zeusd: unknown key"),
        (
            {"kind": "emulated", "count": 2, "profiles": ["h100"]},
            "device: profiles: asked for it beside profile or count: give one of them",
        ),
        (
            {"kind": "emulated", "count": 2, "faults": [{"gpu": 2, "power_brake": True}]},
            "device: faults: asked for GPU 2, found 2 GPUs",
        ),
    ],
)
def test_an_error_in_the_device_section_is_one_line_that_names_the_key(
    tmp_path: Path, device: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, device)
    assert str(caught.value) == f"{tmp_path / 'run.yaml'}: {says}"
