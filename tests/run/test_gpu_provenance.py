from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from steppe.run import gpu_provenance
from steppe.run.gpu_provenance import provenance_of


def gpu(**capabilities: bool) -> Any:
    can = {"is_emulated": False, "is_mig": False, "has_energy_counter": True, **capabilities}
    properties = SimpleNamespace(name="NVIDIA H100", driver="580.95.05", **can)
    return SimpleNamespace(
        uuid="GPU-1", capabilities=properties, is_emulated=properties.is_emulated
    )


@pytest.mark.parametrize(
    ("gpus", "meter"),
    [
        ([gpu()], "counter"),
        ([gpu(), gpu(has_energy_counter=False)], "integrated"),
        ([gpu(), gpu(is_mig=True)], "estimated"),
        ([gpu(is_emulated=True, is_mig=True)], "emulated"),
    ],
)
def test_provenance_names_the_meter_of_the_worst_gpu(
    gpus: list[Any], meter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_provenance, "measure_periods", lambda _: {"GPU-1": 0.1})
    found = provenance_of(gpus, "tiny", "vllm", 1)
    assert (found.meter, found.energy_source == "emulated") == (meter, meter == "emulated")
