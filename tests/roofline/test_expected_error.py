from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from steppe.errors import ConfigError
from steppe.roofline.expected_error import (
    ModelKind,
    expected_error,
    read_expected_errors,
)
from steppe.roofline.files import read_model_shape


def test_the_shipped_table_has_each_kind_of_model_in_each_range_of_batch_limits() -> None:
    table = read_expected_errors()
    ranges = [31, 127, 512]
    for flags in product((False, True), repeat=3):
        kind = ModelKind(*flags)
        assert [found.up_to_batch for found in table if found.kind == kind] == ranges


def test_no_kind_of_model_is_expected_closer_than_a_dense_one_on_one_gpu() -> None:
    table = read_expected_errors()
    plain = {found.up_to_batch: found for found in table if not any(_flags(found.kind))}
    for found in table:
        assert found.joules_per_token >= plain[found.up_to_batch].joules_per_token
        assert found.output_tps >= plain[found.up_to_batch].output_tps


def _flags(kind: ModelKind) -> tuple[bool, bool, bool]:
    return kind.has_experts, kind.is_quantised, kind.on_several_gpus


@pytest.mark.parametrize(
    ("model", "gpus", "flags"),
    [
        ("llama-3.1-8b", 1, (False, False, False)),
        ("llama-3.1-8b", 2, (False, False, True)),
        ("llama-3.1-405b-fp8", 8, (False, True, True)),
        ("qwen3-30b-a3b-instruct-2507", 1, (True, False, False)),
        ("gpt-oss-20b", 1, (True, True, False)),
        ("deepseek-v3.1", 8, (True, True, True)),
    ],
)
def test_the_kind_of_a_model_follows_from_its_shape(
    model: str, gpus: int, flags: tuple[bool, bool, bool]
) -> None:
    assert _flags(ModelKind.of(read_model_shape(model), gpus)) == flags


def test_the_last_range_has_no_end() -> None:
    model = read_model_shape("llama-3.1-8b")
    assert expected_error(model, 1, 100_000) == expected_error(model, 1, 512)
    assert expected_error(model, 1, 31) != expected_error(model, 1, 32)


def test_a_malformed_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("experts,quantised\nTrue,False\n")
    with pytest.raises(ConfigError, match="not a table of expected errors"):
        read_expected_errors(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_expected_errors(tmp_path / "missing.csv")
