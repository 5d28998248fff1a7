"""What `deploy/check/crds` says of RayCluster is what KubeRay says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip(
    "kubernetes_validate", reason="pip install kubernetes-validate (extra `deploy`)"
)

from deploy.check.manifests import CUSTOM, schema_of

KUBERAY = Path(__file__).parents[3] / "shared/data/interfaces/kuberay/ray.io_rayclusters.yaml"
NEEDS_KUBERAY = pytest.mark.skipif(not KUBERAY.is_file(), reason="../shared/data is not there")


@pytest.fixture(scope="module")
def theirs() -> Mapping[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load(KUBERAY.read_text(), loader)
    versions = {version["name"]: version for version in definition["spec"]["versions"]}
    found: Mapping[str, Any] = versions["v1"]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield where our schema of a part says other than KubeRay's."""
    for key in ("type", "enum", "required"):
        if ours.get(key) != theirs.get(key):
            yield f"{place}: {key} is {theirs.get(key)} in KubeRay's, {ours.get(key)} in ours"
    if ours.get("podTemplate"):
        return
    for name, each in ours.get("properties", {}).items():
        if name not in theirs["properties"]:
            yield f"{place}.{name} is not in KubeRay's"
        else:
            yield from differences(each, theirs["properties"][name], f"{place}.{name}")
    if "items" in ours:
        yield from differences(ours["items"], theirs["items"], f"{place}[]")


@NEEDS_KUBERAY
def test_the_fields_of_a_ray_cluster_are_those_of_kuberay(theirs: Mapping[str, Any]) -> None:
    ours = schema_of("raycluster.yaml")["properties"]["spec"]
    assert list(differences(ours, theirs, "spec")) == []


def is_closed(schema: Mapping[str, Any]) -> bool:
    """Return whether every object of a schema that names properties refuses others."""
    names = schema.get("properties")
    own = names is None or schema.get("additionalProperties") is False
    parts = [*(names or {}).values(), *([schema["items"]] if "items" in schema else [])]
    return own and all(is_closed(part) for part in parts)


@pytest.mark.parametrize("name", CUSTOM.values())
def test_a_schema_of_a_custom_resource_refuses_what_it_does_not_name(name: str) -> None:
    assert is_closed(schema_of(name))
