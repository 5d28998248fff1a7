"""Is each object of a manifest one that Kubernetes 1.37 and its operators take?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator

KUBERNETES = "1.37"
CRDS = Path(__file__).parent / "crds"
CUSTOM = {
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): "httproute.yaml",
    ("ray.io/v1", "RayCluster"): "raycluster.yaml",
    ("monitoring.coreos.com/v1", "ServiceMonitor"): "servicemonitor.yaml",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "prometheusrule.yaml",
}
"""The schema of each custom resource that the chart has."""
Manifest = Mapping[str, Any]


def objects_of(text: str) -> list[Manifest]:
    """Return the objects of a manifest."""
    return [found for found in yaml.safe_load_all(text) if found]


def name_of(found: Manifest) -> str:
    """Return the kind and the name of an object."""
    return f"{found.get('kind')} {found.get('metadata', {}).get('name')}"


def schema_problems(found: Manifest) -> Iterator[str]:
    """Yield what is wrong with the fields of an object."""
    where = name_of(found)
    custom = CUSTOM.get((str(found.get("apiVersion")), str(found.get("kind"))))
    if custom is None:
        yield from _core_problems(where, found)
        return
    for error in Draft202012Validator(schema_of(custom)).iter_errors(found):
        yield f"{where}: {error.json_path[2:]}: {error.message}"
    for place, template in custom_templates(found):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, **template}
        yield from _core_problems(f"{where}, {place}", pod)


def custom_templates(found: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Yield the pod templates of a RayCluster, each with its place."""
    if found.get("kind") != "RayCluster":
        return
    spec = found["spec"]
    yield "headGroupSpec", spec.get("headGroupSpec", {}).get("template", {})
    for group in spec.get("workerGroupSpecs", ()):
        yield f"workerGroupSpecs {group.get('groupName')}", group.get("template", {})


@cache
def schema_of(name: str) -> Manifest:
    """Return a schema of `CRDS`."""
    found: Manifest = yaml.safe_load((CRDS / name).read_text())
    return found


def _core_problems(where: str, found: Manifest) -> Iterator[str]:
    try:
        kubernetes_validate.validate(dict(found), KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        yield f"{where}: Kubernetes {KUBERNETES} has no {found.get('apiVersion')}"
    except kubernetes_validate.ValidationError as error:
        yield f"{where}: {'.'.join(map(str, error.path))}: {error.message}"
