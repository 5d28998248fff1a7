from __future__ import annotations

import pytest

from steppe.engine.cpu_dtype import cpu_dtype


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, None), (False, "float32")])
def test_a_cpu_without_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, dtype: str | None
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_bfloat16)
    assert cpu_dtype() == dtype
