"""The chart renders to manifests that Kubernetes takes, and mistakes in it are found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("promql_parser", reason="pip install promql-parser (extra `deploy`)")
pytest.importorskip(
    "kubernetes_validate", reason="pip install kubernetes-validate (extra `deploy`)"
)

from deploy.check import chart as checks
from deploy.check.chart import CHART, EXAMPLES, ROOT, copy_problems, manifest_problems, rendered
from deploy.check.helm import HelmError, MissingToolError, helm_path
from deploy.check.images import SCRATCH, USER
from deploy.check.manifests import Manifest, objects_of
from deploy.check.pod_policy import templates_of

from steppe.config import RunConfig, load_config, parse_config

NAMES = [str(path.relative_to(EXAMPLES)) for path in sorted(EXAMPLES.rglob("*.yaml"))]
STEPPE = (sys.executable, "-m", "steppe")
COMMANDS_S = 300.0
"""Longest time for a command of the README, s."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def helm() -> Path:
    try:
        return helm_path()
    except MissingToolError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def changed_chart(tmp_path: Path) -> Callable[[str, str, str], Path]:
    """Return a copy of the chart with another text in one of its files."""

    def change(name: str, old: str, new: str) -> Path:
        folder = tmp_path / "steppe"
        shutil.copytree(CHART, folder, dirs_exist_ok=True)
        text = (folder / name).read_text()
        assert old in text, f"{name} has no {old}"
        (folder / name).write_text(text.replace(old, new))
        return folder

    return change


def values_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text())
    return found


def with_values(folder: Path, name: str, changes: Mapping[str, Any]) -> Path:
    """Write the values of an example with other values of some of its keys."""
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump({**values_of(name), **changes}))
    return path


def run_of(manifest: str) -> str:
    """Return the run configuration of a manifest."""
    maps = (found for found in objects_of(manifest) if found["kind"] == "ConfigMap")
    return next(str(found["data"]["run.yaml"]) for found in maps if "run.yaml" in found["data"])


def named(manifest: str, kind: str, name: str) -> Manifest:
    """Return an object of a manifest."""
    return next(
        found
        for found in objects_of(manifest)
        if (found["kind"], found["metadata"]["name"]) == (kind, name)
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_sound(name: str) -> None:
    assert list(manifest_problems(rendered(EXAMPLES / name))) == []


def test_the_copies_of_the_chart_are_what_their_sources_say() -> None:
    assert list(copy_problems()) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("raycluster", "rayVersion:", "rayVersions:", "rayVersions"),
        ("raycluster", "minReplicas:", "minReplica:", "minReplica"),
        ("raycluster", "upgradeStrategy:", "upgradeStrategies:", "upgradeStrategies"),
        ("raycluster", "tolerations:", "tolerationz:", "tolerationz"),
        ("monitoring", "honorLabels:", "honourLabels:", "honourLabels"),
        ("driver", "startupProbe:", "startProbe:", "startProbe"),
        ("network", "podSelector:", "podSelectors:", "podSelectors"),
        ("_pods.tpl", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot is not true"),
        ("_pods.tpl", "drop: [ALL]", "drop: [NET_RAW]", "capabilities.drop is ['NET_RAW']"),
        ("agent", "add: [SYS_ADMIN]", "add: [SYS_ADMIN, SYS_PTRACE]", "SYS_PTRACE"),
        ("_names.tpl", 'include "steppe.drainS" .', '"0"', "terminationGracePeriodSeconds"),
    ],
)
def test_a_mistake_in_a_template_is_found(
    changed_chart: Callable[[str, str, str], Path], file: str, old: str, new: str, said: str
) -> None:
    name = file if "." in file else f"{file}.yaml"
    folder = changed_chart(f"templates/{name}", old, new)
    values = with_values(folder.parent, "eight-gpus.yaml", {"driver": {"closeS": 10}})
    found = [problem for problem in manifest_problems(rendered(values, folder)) if said in problem]
    assert found
    assert all(re.match(r"[A-Z]\w+ steppe[\w-]*[:,] ", problem) for problem in found), found


def test_an_alert_that_asks_for_a_metric_that_does_not_exist_is_found(
    changed_chart: Callable[[str, str, str], Path],
) -> None:
    folder = changed_chart("files/rules.yml", "steppe_power_budget_watts", "steppe_budget_wats")
    found = list(manifest_problems(rendered(EXAMPLES / "eight-gpus.yaml", folder)))
    assert [problem for problem in found if "does not exist, steppe_budget_wats" in problem]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wokers": {"gpus": 8}}, "wokers"),
        ({"workers": {"gpu": 8}}, "gpu"),
        ({"workers": {"gpus": 0}}, "gpus"),
        ({"env": {"HF_TOKEN": "hf_1234"}}, "HF_TOKEN"),
        ({"images": {"agent": {"digest": "sha256:12"}}}, "digest"),
        ({"extraVolumes": [{"name": "x", "hostPath": {"path": "/etc"}}]}, "hostPath"),
        ({"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.host: asked for the name"),
        ({"gateway": {"route": {"enabled": True}}}, "gateway.route.parents: asked for a Gateway"),
        ({"secretEnv": {"HF_TOKEN": "hf_1234"}}, "HF_TOKEN"),
        ({"run": {}}, "asked for a run configuration, found none"),
        ({"run": {"ray": {"address": "local"}}}, "the cluster of this chart; found local"),
    ],
)
def test_values_that_the_chart_does_not_know_are_refused(
    tmp_path: Path, changes: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(HelmError, match=said):
        rendered(with_values(tmp_path, "one-node.yaml", changes))


def test_a_password_in_the_run_configuration_is_named_and_not_shown(tmp_path: Path) -> None:
    run = values_of("one-node.yaml")["run"]
    run["tenants"] = {"store": "postgresql+psycopg://steppe:Xq9TzL2m@db/steppe"}
    manifest = rendered(with_values(tmp_path, "one-node.yaml", {"run": run}))
    found = " ".join(manifest_problems(manifest))
    assert re.search(r"ConfigMap steppe-run: data\.run\.yaml, line \d+: a password in a URL", found)
    assert "Xq9TzL2m" not in found


def test_a_mistake_in_the_run_configuration_is_found(tmp_path: Path) -> None:
    run = values_of("one-node.yaml")["run"]
    run["fleet"] = {"replicaz": 1}
    values = with_values(tmp_path, "one-node.yaml", {"run": run})
    assert "replicaz" in " ".join(manifest_problems(rendered(values)))


@pytest.mark.parametrize("name", NAMES)
def test_the_run_of_an_example_is_that_of_its_values(name: str) -> None:
    run = values_of(name)["run"]
    run["ray"] = {"address": "auto"}
    run["gateway"]["host"] = "0.0.0.0"
    if "sites" in run:
        run["sites"]["host"] = "0.0.0.0"
    found = yaml.safe_load(run_of(rendered(EXAMPLES / name)))
    assert as_read(found) == as_read(run)


def as_read(run: Mapping[str, Any]) -> RunConfig:
    return parse_config(run, "run.yaml", ROOT)


def test_large_and_small_numbers_come_through_helm_as_they_are(tmp_path: Path) -> None:
    run = values_of("one-node.yaml")["run"]
    run["engine"] = {"max_batch_limit": 256, "kv_cache_bytes": 40_265_318_400}
    run["slo"] = {"ttft_s": 2.25, "tpot_s": 0.0123}
    values = with_values(tmp_path, "one-node.yaml", {"run": run})
    found = as_read(yaml.safe_load(run_of(rendered(values))))
    assert found.engine.kv_cache_bytes == 40_265_318_400
    assert found.slo.tpot_s == 0.0123


@pytest.mark.parametrize("name", ["one-node.yaml", "eight-gpus.yaml"])
def test_steppe_accepts_the_run_of_an_example(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run.yaml"
    run.write_text(run_of(rendered(EXAMPLES / name)))
    subprocess.run([*STEPPE, "config", "validate", str(run)], check=True)


def test_pods_have_a_volume_wherever_their_image_writes() -> None:
    manifest = rendered(EXAMPLES / "one-node.yaml")
    cluster = named(manifest, "RayCluster", "steppe")["spec"]
    driver = named(manifest, "Deployment", "steppe-driver")["spec"]
    groups = (cluster["headGroupSpec"], cluster["workerGroupSpecs"][0], driver)
    for spec in (group["template"]["spec"] for group in groups):
        mounted = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
        assert set(SCRATCH.values()) <= mounted
        assert f"{spec['securityContext']['runAsUser']}" == USER.split(":")[0]


def test_steppe_reads_each_of_three_sites_with_its_certificates(tmp_path: Path) -> None:
    sites = ("hohhot", "guizhou", "shanghai")
    where = [text for name in sites for text in ("--site", f"{name}=https://{name}.example:8443")]
    subprocess.run([*STEPPE, "sites", "init", str(tmp_path / "made"), *where], check=True)
    for name in sites:
        folder = tmp_path / name
        for kind in ("secrets", "keys"):
            shutil.copytree(tmp_path / "made" / name, folder / kind / "site")
        (folder / "config").mkdir()
        run = folder / "config" / "run.yaml"
        run.write_text(run_of(rendered(EXAMPLES / "three-sites" / f"{name}.yaml")))
        subprocess.run([*STEPPE, "config", "validate", str(run)], check=True)
        assert load_config(run).sites is not None


def test_without_the_socket_of_an_agent_no_pod_has_a_folder_of_the_host(tmp_path: Path) -> None:
    values = {"agent": {"enabled": False, "socket": False}}
    manifest = rendered(with_values(tmp_path, "one-node.yaml", values))
    assert "hostPath" not in manifest
    assert "DaemonSet" not in manifest
    assert list(manifest_problems(manifest)) == []


def test_probes_let_a_model_load_for_as_long_as_the_run_allows() -> None:
    manifest = rendered(EXAMPLES / "eight-gpus.yaml")
    driver = named(manifest, "Deployment", "steppe-driver")["spec"]["template"]["spec"]
    probe = driver["containers"][0]["startupProbe"]
    start_s = load_start_s(manifest)
    assert probe["failureThreshold"] * probe["periodSeconds"] >= start_s == 3600


def load_start_s(manifest: str) -> float:
    return float(as_read(yaml.safe_load(run_of(manifest))).fleet.start_s)


def test_an_image_by_digest_has_no_tag(tmp_path: Path) -> None:
    digest = f"sha256:{'0' * 64}"
    values = {
        "images": {"worker": {"repository": "registry.example/steppe-vllm", "digest": digest}}
    }
    manifest = rendered(with_values(tmp_path, "one-node.yaml", values))
    group = named(manifest, "RayCluster", "steppe")["spec"]["workerGroupSpecs"][0]
    image = group["template"]["spec"]["containers"][0]["image"]
    assert image == f"registry.example/steppe-vllm@{digest}"
    assert list(manifest_problems(manifest)) == []


def test_ways_from_outside_lead_to_the_gateway_and_have_no_time_limit(tmp_path: Path) -> None:
    gateway = {
        "ingress": {"enabled": True, "host": "steppe.example", "tlsSecret": "steppe-tls"},
        "route": {"enabled": True, "parents": [{"name": "outside", "namespace": "gateways"}]},
    }
    manifest = rendered(with_values(tmp_path, "one-node.yaml", {"gateway": gateway}))
    assert list(manifest_problems(manifest)) == []
    service = named(manifest, "Service", "steppe-gateway")
    port = service["spec"]["ports"][0]["port"]
    (rule,) = named(manifest, "HTTPRoute", "steppe-gateway")["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "steppe-gateway", "port": port}]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    ingress = named(manifest, "Ingress", "steppe-gateway")
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"] == {"service": {"name": "steppe-gateway", "port": {"number": port}}}
    assert (
        ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    )


def test_a_run_that_is_not_held_may_be_moved_by_a_drain(tmp_path: Path) -> None:
    values = {"disruptionBudgets": {"holdRun": False}}
    budgets = [
        found["metadata"]["name"]
        for found in objects_of(rendered(with_values(tmp_path, "one-node.yaml", values)))
        if found["kind"] == "PodDisruptionBudget"
    ]
    assert budgets == ["steppe-worker"]


def test_volumes_of_a_user_are_in_pods_of_driver_and_workers(tmp_path: Path) -> None:
    values = {
        "extraVolumes": [{"name": "certificates", "configMap": {"name": "company"}}],
        "extraMounts": [{"name": "certificates", "mountPath": "/etc/company"}],
    }
    manifest = rendered(with_values(tmp_path, "one-node.yaml", values))
    assert manifest.count("mountPath: /etc/company") == 2
    assert list(manifest_problems(manifest)) == []


def test_each_pod_has_an_account_of_its_release_and_no_token() -> None:
    objects = objects_of(rendered(EXAMPLES / "eight-gpus.yaml"))
    accounts = {
        (found["metadata"]["namespace"], found["metadata"]["name"])
        for found in objects
        if found["kind"] == "ServiceAccount" and found["automountServiceAccountToken"] is False
    }
    assert accounts == {("steppe", "steppe"), ("steppe-agent", "steppe-agent")}
    for found in objects:
        for _, template in templates_of(found):
            name = template["spec"]["serviceAccountName"]
            assert (found["metadata"]["namespace"], name) in accounts


def test_objects_have_the_labels_that_kubernetes_recommends() -> None:
    for found in objects_of(rendered(EXAMPLES / "eight-gpus.yaml")):
        labels = found["metadata"]["labels"]
        for name in ("name", "instance", "version", "part-of", "managed-by"):
            assert f"app.kubernetes.io/{name}" in labels, found["metadata"]["name"]


class Ready(BaseHTTPRequestHandler):
    """Answers as a gateway that serves, or one that does not."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/ready" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_test_of_a_release_asks_whether_its_gateway_serves() -> None:
    pod = named(rendered(EXAMPLES / "one-node.yaml"), "Pod", "steppe-ready")
    *command, url = pod["spec"]["containers"][0]["command"]
    assert url == "http://steppe-gateway:8000/health/ready"
    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        here = f"http://127.0.0.1:{server.server_port}"
        codes = [
            subprocess.call(
                [sys.executable, *command[1:], f"{here}{path}"], stderr=subprocess.DEVNULL
            )
            for path in ("/health/ready", "/health/other")
        ]
        server.shutdown()
        thread.join()
    assert codes == [0, 1]


def missing_values(schema: Mapping[str, Any], values: Mapping[str, Any], at: str) -> Iterator[str]:
    """Yield the names of a schema that have no default, by which values.yaml documents them."""
    for name, each in schema.get("properties", {}).items():
        if name not in values:
            yield f"{at}{name}"
        elif isinstance(values[name], dict):
            yield from missing_values(each, values[name], f"{at}{name}.")


def test_each_name_of_the_schema_is_in_the_values_with_its_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert list(missing_values(schema, values, "")) == ["global"]


def test_each_policy_and_service_selects_pods_of_the_chart() -> None:
    manifest = rendered(EXAMPLES / "three-sites" / "hohhot.yaml")
    objects = objects_of(manifest)
    pods = [
        labels
        for found in objects
        for labels in (
            [found["spec"]["template"]["metadata"]["labels"]]
            if found["kind"] in ("Deployment", "DaemonSet")
            else [
                found["spec"]["headGroupSpec"]["template"]["metadata"]["labels"],
                found["spec"]["workerGroupSpecs"][0]["template"]["metadata"]["labels"],
            ]
            if found["kind"] == "RayCluster"
            else []
        )
    ]
    for found in objects:
        selector = selector_of(found)
        assert selector is None or any(selector.items() <= labels.items() for labels in pods), found


def selector_of(found: Manifest) -> dict[str, str] | None:
    spec = found.get("spec", {})
    if found["kind"] == "Service":
        return dict(spec["selector"])
    if found["kind"] == "PodDisruptionBudget":
        return dict(spec["selector"]["matchLabels"])
    if found["kind"] == "NetworkPolicy":
        return dict(spec["podSelector"]["matchLabels"])
    return None


def readme_commands() -> list[str]:
    """Return the commands of the first block of the chart's README."""
    block = (CHART / "README.md").read_text().split("```bash\n")[1].split("```")[0]
    return block.strip().splitlines()


def test_five_commands_of_the_readme_lead_to_a_manifest_for_eight_gpus(tmp_path: Path) -> None:
    install, *others = readme_commands()
    assert install == "make install EXTRAS=deploy"  # which has been run, for this test runs
    assert len(others) == 4
    for name in ("deploy", "docs", "runtime", "kernels", "configs"):
        ignored = shutil.ignore_patterns("_build", "__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    said = ""
    for command in others:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=COMMANDS_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        said += done.stdout
    assert "1 kind: RayCluster" in said
    assert "kind: Pod\n" not in said  # that of `helm test`
    cluster = named((tmp_path / "manifest.yaml").read_text(), "RayCluster", "steppe")
    assert cluster["spec"]["workerGroupSpecs"][0]["rayStartParams"] == {"num-gpus": "8"}


def test_a_helm_that_is_nowhere_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEPPE_DEPLOY_TOOLS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.main([str(EXAMPLES / "one-node.yaml")]) == 1
    assert "helm is not installed" in capsys.readouterr().err
