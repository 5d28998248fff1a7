"""A pod with more rights than it needs, or less time, is found."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

pytest.importorskip(
    "kubernetes_validate", reason="pip install kubernetes-validate (extra `deploy`)"
)

from deploy.check.manifests import schema_problems
from deploy.check.pod_policy import policy_problems

CONTEXT = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
CONTAINER = {
    "name": "one",
    "image": "one:1",
    "securityContext": CONTEXT,
    "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
    "startupProbe": {"exec": {"command": ["true"]}},
    "readinessProbe": {"exec": {"command": ["true"]}},
    "livenessProbe": {"exec": {"command": ["true"]}},
    "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
}
POD: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "terminationGracePeriodSeconds": 60,
    "containers": [CONTAINER],
}
RUN = {
    "kind": "ConfigMap",
    "metadata": {"name": "run"},
    "data": {"run.yaml": "gateway: {drain_s: 45}"},
}


def deployment(pod: dict[str, Any] = POD, **container: Any) -> dict[str, Any]:
    """Return a Deployment of a pod with a changed container; a value of None removes a key."""
    spec = deepcopy(pod)
    for key, value in container.items():
        if value is None:
            del spec["containers"][0][key]
        else:
            spec["containers"][0][key] = value
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "one"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec},
        },
    }


def context(**changes: Any) -> dict[str, Any]:
    """Return the security context of the container with changes."""
    return {**CONTEXT, **changes}


def test_a_pod_without_more_rights_than_it_needs_is_sound() -> None:
    found = deployment()
    assert list(schema_problems(found)) == []
    assert list(policy_problems([found, RUN])) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"securityContext": context(runAsUser=0)}, "runAsUser is 0: it may run as root"),
        ({"securityContext": context(runAsNonRoot=False)}, "runAsNonRoot is not true"),
        ({"securityContext": context(privileged=True)}, "privileged is true"),
        (
            {"securityContext": context(allowPrivilegeEscalation=True)},
            "allowPrivilegeEscalation is not false",
        ),
        (
            {"securityContext": context(readOnlyRootFilesystem=False)},
            "readOnlyRootFilesystem is not",
        ),
        ({"securityContext": context(capabilities={})}, "capabilities.drop is None"),
        (
            {"securityContext": context(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]})},
            "capabilities.add is ['SYS_ADMIN']",
        ),
        (
            {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
            "resources.limits.memory is missing",
        ),
        ({"image": "registry:5000/one"}, "image registry:5000/one is of no"),
        ({"image": "one:latest"}, "image one:latest is of no release"),
        ({"livenessProbe": None}, "no livenessProbe"),
        ({"startupProbe": None}, "no startupProbe"),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": 20}}}}, "not more than preStop (20 s)"),
    ],
)
def test_a_container_with_a_mistake_is_found(changes: dict[str, Any], said: str) -> None:
    found = list(policy_problems([deployment(**changes), RUN]))
    assert len(found) == 1
    assert found[0].startswith("Deployment one")
    assert said in found[0]


def test_an_image_by_digest_needs_no_tag() -> None:
    assert list(policy_problems([deployment(image=f"one@sha256:{'0' * 64}"), RUN])) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hostNetwork": True}, "hostNetwork is on"),
        ({"automountServiceAccountToken": True}, "automountServiceAccountToken is not false"),
        ({"volumes": [{"name": "x", "hostPath": {"path": "/etc"}}]}, "volume x: hostPath is /etc"),
    ],
)
def test_a_pod_with_a_mistake_is_found(changes: dict[str, Any], said: str) -> None:
    assert [each for each in policy_problems([deployment({**POD, **changes}), RUN]) if said in each]


def test_a_time_to_end_that_is_shorter_than_the_drain_is_found() -> None:
    longer = {**RUN, "data": {"run.yaml": "gateway: {drain_s: 55}"}}
    assert "terminationGracePeriodSeconds is 60" in next(policy_problems([deployment(), longer]))


def test_a_secret_in_a_manifest_is_found() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}
    assert "have no secrets" in next(policy_problems([secret]))


def test_a_field_and_a_kind_that_kubernetes_does_not_have_are_found() -> None:
    typo = deployment(imagePullPolicys="Always")
    assert "imagePullPolicys" in next(schema_problems(typo))
    unknown = {**deployment(), "kind": "Deploymint"}
    assert "has no apps/v1" in next(schema_problems(unknown))
