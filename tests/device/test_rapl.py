from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.emulated_node import EmulatedNode

from steppe.device.rapl import RaplMeter, open_host_meter
from steppe.errors import DeviceLostError, NoPermissionError

RANGE_UJ = 262_143_328_850


def make_zone(root: Path, folder: str, name: str, energy_uj: int) -> Path:
    zone = root / folder
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    return zone


def opened(root: Path) -> RaplMeter:
    meter = open_host_meter(root=root)
    assert meter is not None
    return meter


def test_a_host_without_rapl_has_no_meter_and_not_a_zero(tmp_path: Path) -> None:
    assert open_host_meter(root=tmp_path / "powercap") is None
    (tmp_path / "powercap").mkdir()
    assert open_host_meter(root=tmp_path / "powercap") is None


def test_packages_and_memory_are_added_but_nothing_twice(tmp_path: Path) -> None:
    names = {
        "intel-rapl:0": "package-0",
        "intel-rapl:1": "package-1",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    for folder, name in names.items():
        make_zone(tmp_path, folder, name, 0)
    meter = opened(tmp_path)
    for folder, name in names.items():
        make_zone(tmp_path, folder, name, 1_000_000)
    assert meter.energy_j() == 3.0


@given(st.integers(0, RANGE_UJ), st.lists(st.integers(0, RANGE_UJ), min_size=1, max_size=8))
def test_a_wrap_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, start_uj: int, steps_uj: list[int]
) -> None:
    root = tmp_path_factory.mktemp("powercap")
    make_zone(root, "intel-rapl:0", "package-0", start_uj)
    meter, now_uj = opened(root), start_uj
    for step_uj in steps_uj:
        now_uj = (now_uj + step_uj) % (RANGE_UJ + 1)
        make_zone(root, "intel-rapl:0", "package-0", now_uj)
        energy_j = meter.energy_j()
    assert energy_j == pytest.approx(sum(steps_uj) / 1e6)


def test_counters_of_root_are_no_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    read_text = Path.read_text

    def refuse(path: Path, *args: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *args)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(NoPermissionError, match="only root may read it"):
        open_host_meter(root=tmp_path)


def test_a_zone_that_goes_away_is_an_error(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = opened(tmp_path)
    (zone / "energy_uj").unlink()
    with pytest.raises(DeviceLostError, match="energy_uj"):
        meter.energy_j()


def test_a_gpu_that_reads_its_module_contains_the_processor(
    tmp_path: Path, node: EmulatedNode
) -> None:
    make_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    gpu = node.open().capabilities
    assert open_host_meter((gpu,), tmp_path) is not None
    assert open_host_meter((dataclasses.replace(gpu, has_module_scope=True),), tmp_path) is None
