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
    ],
)
def test_an_error_in_the_device_section_is_one_line_that_names_the_key(
    tmp_path: Path, device: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, device)
    assert str(caught.value) == f"{tmp_path / 'run.yaml'}: {says}"
