"""A secret in plain text is found by its place, and is not shown."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip(
    "kubernetes_validate", reason="pip install kubernetes-validate (extra `deploy`)"
)

from deploy.check.plain_secrets import plain_secrets

SECRET = "Xq9TzL2mBv7RkW4c"


def run_map(text: str) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": "run"}, "data": {"run.yaml": text}}


def pod(**variable: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "one", "env": [variable]}]}
    return {"kind": "Pod", "metadata": {"name": "one"}, "spec": spec}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"store: postgresql+psycopg://steppe:{SECRET}@db/steppe", "a password in a URL"),
        ("key: -----BEGIN PRIVATE KEY-----", "a private key"),
        (f"key: sk-steppe-ab12-{SECRET}", "a key of a tenant"),
        (f"token: hf_{SECRET}", "a token of Hugging Face"),
        (f"id: AKIA{SECRET.upper()}", "a key of AWS"),
    ],
)
def test_a_secret_in_a_run_configuration_is_named_by_its_line(line: str, what: str) -> None:
    (problem,) = plain_secrets(run_map(f"gateway: {{port: 8000}}\n{line}\n"))
    assert problem == f"ConfigMap run: data.run.yaml, line 2: {what}"


@pytest.mark.parametrize(
    "line",
    [
        "store: postgresql+psycopg://steppe@db:5432/steppe",
        "url: https://hohhot.example:8443/settlement@1",
        "tls_key: ../keys/site/key.pem",
        "name: Qwen/Qwen3-32B",
    ],
)
def test_addresses_and_paths_are_no_secrets(line: str) -> None:
    assert list(plain_secrets(run_map(line))) == []


def test_a_variable_for_a_secret_with_a_plain_value_is_named() -> None:
    assert list(plain_secrets(pod(name="HF_TOKEN", value=SECRET))) == [
        "Pod one: spec.containers[0].env[0]: HF_TOKEN has a value: asked for a secretKeyRef"
    ]


def test_a_variable_that_names_a_secret_is_sound() -> None:
    of_secret = {"secretKeyRef": {"name": "hugging-face", "key": "token"}}
    assert list(plain_secrets(pod(name="HF_TOKEN", valueFrom=of_secret))) == []


def test_an_object_of_the_kind_secret_is_found() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}
    assert list(plain_secrets(secret)) == [
        "Secret keys: values and manifests have no secrets, only their names"
    ]
