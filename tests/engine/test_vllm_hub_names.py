from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steppe.engine.vllm_hub_names import hub_names


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter").mkdir()
    return str(tmp_path)


def test_a_model_by_hub_id_is_fetched_and_a_folder_is_not(model: str) -> None:
    assert hub_names("org/name", {}) == ["org/name"]
    assert hub_names(model, {"enforce_eager": True}) == []


@pytest.mark.parametrize(
    ("args", "names"),
    [
        ({"lora_modules": ["sql=org/adapter"]}, ["org/adapter"]),
        ({"lora-modules": "sql=org/adapter"}, ["org/adapter"]),
        ({"lora_modules": [{"name": "sql", "path": "org/adapter"}]}, ["org/adapter"]),
        ({"lora_modules": ['{"name": "sql", "path": "org/adapter"}']}, ["org/adapter"]),
        ({"speculative_config": {"model": "org/draft", "method": "eagle3"}}, ["org/draft"]),
        ({"speculative_config": '{"model": "org/draft"}'}, ["org/draft"]),
        ({"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}}, []),
        ({"speculative_config": {"model": "ngram"}}, []),
        ({"tokenizer": "org/tokenizer"}, ["org/tokenizer"]),
        ({"default_mm_loras": {"audio": "org/audio"}}, ["org/audio"]),
        ({"lora_modules": [3, None, "no-path"]}, []),
    ],
)
def test_adapters_drafts_and_tokenizers_by_hub_id_are_fetched(
    model: str, args: dict[str, Any], names: list[str]
) -> None:
    assert hub_names(model, args) == names


def test_a_local_adapter_and_a_local_draft_are_not_fetched(model: str) -> None:
    adapter = f"{model}/adapter"
    args = {"lora_modules": [f"sql={adapter}"], "speculative_config": {"model": adapter}}
    assert hub_names(model, args) == []


def test_code_that_lies_in_another_repository_is_fetched(model: str) -> None:
    classes = {"AutoModel": "org/code--modeling.Model", "AutoConfig": "configuration.Config"}
    Path(model, "config.json").write_text(json.dumps({"auto_map": classes}))
    assert hub_names(model, {"trust_remote_code": True}) == ["org/code"]
