from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from expected_error_table import LeftOutRun, expected_errors, write_expected_errors
from steppe.roofline.expected_error import ExpectedError, ModelKind, read_expected_errors

PLAIN = ModelKind(has_experts=False, is_quantised=False, on_several_gpus=False)
MOE = ModelKind(has_experts=True, is_quantised=False, on_several_gpus=False)
MOE_ON_SEVERAL = ModelKind(has_experts=True, is_quantised=False, on_several_gpus=True)


def _runs(kind: ModelKind, models: int, error: float) -> list[LeftOutRun]:
    return [
        LeftOutRun(f"{kind}-{model}", kind, batch, error, error / 2)
        for model in range(models)
        for batch in (8, 64, 256)
    ]


EVERY = [
    *_runs(PLAIN, 4, 0.05),
    *_runs(MOE, 1, 0.1),
    *_runs(MOE_ON_SEVERAL, 3, 0.3),
    *_runs(ModelKind(has_experts=False, is_quantised=True, on_several_gpus=False), 3, 0.01),
]


def _of(kind: ModelKind) -> ExpectedError:
    return next(found for found in expected_errors(EVERY) if found.kind == kind)


def test_a_kind_with_enough_models_has_its_own_error() -> None:
    found = _of(MOE_ON_SEVERAL)
    assert (found.joules_per_token, found.output_tps) == pytest.approx((0.3, 0.15))
    assert (found.rows, found.models) == (3, 3)
    assert found.similar == "mixture of experts, 16-bit weights, several GPUs"


def test_a_kind_with_too_few_models_has_that_of_all_with_its_trait() -> None:
    found = _of(MOE)
    assert found.joules_per_token == pytest.approx(0.3)
    assert (found.models, found.similar) == (4, "all with a mixture of experts")


def test_no_kind_is_expected_closer_than_a_plain_model() -> None:
    quantised = ModelKind(has_experts=False, is_quantised=True, on_several_gpus=False)
    assert _of(quantised).joules_per_token == _of(PLAIN).joules_per_token == pytest.approx(0.05)


def test_a_written_table_is_read_again(tmp_path: Path) -> None:
    table = expected_errors(EVERY)
    write_expected_errors(tmp_path / "table.csv", table)
    for found, written in zip(read_expected_errors(tmp_path / "table.csv"), table, strict=True):
        rounded = replace(
            written,
            joules_per_token=round(written.joules_per_token, 3),
            output_tps=round(written.output_tps, 3),
        )
        assert found == rounded
