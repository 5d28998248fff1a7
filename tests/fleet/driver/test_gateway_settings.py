from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.config.test_error_messages import loaded

from steppe.engine.run_secret import secret_headers
from steppe.engine.vllm_adapters import adapters
from steppe.errors import UsageError
from steppe.fleet.driver.gateway_settings import gateway_settings
from steppe.gateway.batch_api import UploadLimits
from steppe.gateway.ledger.link import LedgerLink


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {}),
        ({"lora_modules": "sql=/a"}, {"sql": "/a"}),
        (
            {"lora-modules": ["sql=/a", '{"name": "poems", "path": "b/c"}']},
            {"sql": "/a", "poems": "b/c"},
        ),
        ({"lora_modules": [{"name": "sql", "path": "/a"}, 7, "x"]}, {"sql": "/a"}),
    ],
)
def test_adapters_are_read_in_the_forms_that_vllm_takes(given: Any, found: dict[str, str]) -> None:
    assert adapters(given) == found


def test_the_adapters_of_a_model_are_models_for_clients(tmp_path: Path) -> None:
    args = {"enable_lora": True, "lora_modules": ["sql=/a"]}
    config = loaded(tmp_path, {"engine": {"args": args}, "slo": {"ttft_s": 1.5}})
    (model,) = gateway_settings(config).models
    assert (model.adapters, model.ttft_s) == (("sql",), 1.5)


def test_an_adapter_with_the_name_of_its_model_is_refused(tmp_path: Path) -> None:
    config = loaded(tmp_path, {})
    name = config.model.client_name
    config = loaded(tmp_path, {"engine": {"args": {"lora_modules": [f"{name}=/a"]}}})
    with pytest.raises(UsageError, match=f"asked for {name} once, found it in those of {name}"):
        gateway_settings(config)


def test_a_batch_section_opens_uploads_and_the_secret_of_the_run_speaks_for_tenants(
    tmp_path: Path,
) -> None:
    config = loaded(tmp_path, {"batch": {"folder": "b", "file_bytes": 1000, "uploads": 2}})
    settings = gateway_settings(config, secret_headers("of-this-run"))
    assert settings.uploads == UploadLimits(1000, 2, 30.0)
    assert settings.access.run_secret == "of-this-run"
    without = gateway_settings(loaded(tmp_path, {}))
    assert (without.uploads, without.access.run_secret) == (None, "")


def test_a_gateway_asks_the_ledger_about_each_request_where_there_are_prices(
    tmp_path: Path,
) -> None:
    sections: list[dict[str, Any]] = [{}, {"ledger": {}}, {"ledger": {"tariffs": ["prices.yaml"]}}]
    found = [gateway_settings(loaded(tmp_path, section)).ledger for section in sections]
    assert found == [None, LedgerLink(asks=False), LedgerLink(asks=True)]
