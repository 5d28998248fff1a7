from __future__ import annotations

import pytest

from steppe.engine.cpu_amx import allow_amx

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("has_it", [True, False])
def test_the_permission_for_amx_is_asked_for_where_the_processor_has_it(
    has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_it)
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: asked.append(True))
    allow_amx()
    assert asked == [True] * has_it
