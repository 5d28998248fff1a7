"""Do the pods of a manifest have no more rights than they need, and the time that they need?

A problem names the object, its container, and the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from deploy.check.manifests import Manifest, custom_templates, name_of
from deploy.check.plain_secrets import plain_secrets

AGENT = "steppe.agent.server"
"""The program that may be root and have SYS_ADMIN."""
HOST_FOLDER = "/run/steppe"
"""The only folder of a host that a pod may have."""
DRAIN_S = 5.0
"""`gateway.drain_s`, unless the run configuration says otherwise, s."""
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
"""What each container has that is to run on: not in a pod that is never started again."""
WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet", "Job")


def policy_problems(objects: list[Manifest]) -> Iterator[str]:
    """Yield what the pods of a manifest must not be, or lack."""
    drain_s = max([DRAIN_S, *map(_drain_s, objects)])
    for found in objects:
        yield from plain_secrets(found)
        for place, template in templates_of(found):
            where = f"{name_of(found)}{place}"
            yield from _pod_problems(where, template["spec"])
            yield from _time_problems(where, template["spec"], drain_s)


def templates_of(found: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Yield the pods of an object, each with its place in it."""
    if found["kind"] in WORKLOADS:
        yield "", found["spec"]["template"]
    if found["kind"] == "Pod":
        yield "", found
    for place, template in custom_templates(found):
        yield f", {place}", template


def _drain_s(found: Manifest) -> float:
    if found["kind"] != "ConfigMap" or "run.yaml" not in found.get("data", {}):
        return 0.0
    run = yaml.safe_load(found["data"]["run.yaml"])
    return float(run.get("gateway", {}).get("drain_s", DRAIN_S))


def _pod_problems(where: str, spec: Mapping[str, Any]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{where}: {name} is on"
    if spec.get("automountServiceAccountToken") is not False:
        yield f"{where}: automountServiceAccountToken is not false: it gets a token of Kubernetes"
    for volume in spec.get("volumes", ()):
        path = volume.get("hostPath", {}).get("path", HOST_FOLDER)
        if path != HOST_FOLDER:
            yield f"{where}: volume {volume['name']}: hostPath is {path}, not {HOST_FOLDER}"
    pod_context = spec.get("securityContext", {})
    for container in spec.get("initContainers", ()):
        yield from _container_problems(where, container, pod_context)
    for container in spec["containers"]:
        yield from _container_problems(where, container, pod_context)
        for probe in PROBES if spec.get("restartPolicy") != "Never" else ():
            if probe not in container:
                yield f"{where}, container {container['name']}: it has no {probe}"


def _container_problems(
    where: str, container: Mapping[str, Any], pod_context: Mapping[str, Any]
) -> Iterator[str]:
    where = f"{where}, container {container['name']}"
    context = {**pod_context, **container.get("securityContext", {})}
    is_agent = AGENT in container.get("command", ())
    if not is_agent and (not context.get("runAsNonRoot") or context.get("runAsUser") == 0):
        yield f"{where}: runAsNonRoot is not true, or runAsUser is 0: it may run as root"
    if context.get("privileged"):
        yield f"{where}: privileged is true"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{where}: allowPrivilegeEscalation is not false"
    if not context.get("readOnlyRootFilesystem"):
        yield f"{where}: readOnlyRootFilesystem is not true"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{where}: seccompProfile is not RuntimeDefault"
    capabilities = context.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"]:
        yield f"{where}: capabilities.drop is {capabilities.get('drop')}, not ['ALL']"
    if capabilities.get("add", []) != (["SYS_ADMIN"] if is_agent else []):
        yield f"{where}: capabilities.add is {capabilities.get('add')}"
    if not _is_of_a_release(container["image"]):
        yield f"{where}: image {container['image']} is of no release: asked for a tag or a digest"
    resources = container.get("resources", {})
    for kind, name in (("limits", "memory"), ("requests", "cpu"), ("requests", "memory")):
        if name not in resources.get(kind, {}):
            yield f"{where}: resources.{kind}.{name} is missing"


def _is_of_a_release(image: str) -> bool:
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return bool(digest) or tag not in ("", "latest")


def _time_problems(where: str, spec: Mapping[str, Any], drain_s: float) -> Iterator[str]:
    if spec.get("restartPolicy") == "Never":  # it serves nothing
        return
    grace_s = float(spec.get("terminationGracePeriodSeconds", 30))
    for container in spec["containers"]:
        if AGENT in container.get("command", ()):
            continue
        stop = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        stop_s = float(stop.get("seconds", 0))
        if grace_s <= stop_s + drain_s:
            yield (
                f"{where}: terminationGracePeriodSeconds is {grace_s:g}, not more than preStop "
                f"({stop_s:g} s) and gateway.drain_s ({drain_s:g} s)"
            )
