"""Check the chart: `python -m deploy.check.chart [VALUES.yaml [--out MANIFEST.yaml]]`, in the root.

Without values, all its examples are checked. What is checked: helm's lint, each object against
Kubernetes and its operators, what pods may do, the run configuration as `steppe` reads it, alerts.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from deploy.check.helm import HelmError, MissingToolError, run_helm
from deploy.check.manifests import Manifest, name_of, objects_of, schema_problems
from deploy.check.observability import known_metrics, rule_problems
from deploy.check.pod_policy import policy_problems

from steppe.config import parse_config
from steppe.errors import SteppeError

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart" / "steppe"
EXAMPLES = CHART / "examples"
RELEASE = "steppe"
"""Name of the release, and of its namespace, in what is rendered."""


def rendered(values: Path, chart: Path = CHART, further: Sequence[str] = ()) -> str:
    """Return the manifest of some values.

    Args:
        values: The file with them.
        chart: The folder of the chart.
        further: Further options of `helm template`.

    Raises:
        HelmError: The chart or its values are wrong.
        MissingToolError: There is no helm.
    """
    run_helm("lint", "--strict", "--quiet", "--values", str(values), str(chart))
    options = ("--namespace", RELEASE, "--values", str(values), *further)
    return run_helm("template", RELEASE, str(chart), *options)


def manifest_problems(manifest: str) -> Iterator[str]:
    """Yield what is wrong with a manifest."""
    objects = objects_of(manifest)
    for found in objects:
        yield from schema_problems(found)
    yield from policy_problems(objects)
    yield from _double_names(objects)
    for found in objects:
        if found["kind"] == "ConfigMap" and "run.yaml" in found["data"]:
            yield from run_problems(found["data"]["run.yaml"])
        elif found["kind"] == "PrometheusRule":
            yield from rule_problems(found["spec"], known_metrics())


def run_problems(text: str) -> Iterator[str]:
    """Yield what is wrong with the run configuration of a manifest."""
    try:
        parse_config(yaml.safe_load(text), "run.yaml", ROOT)
    except SteppeError as error:
        yield f"run: {error}"


def copies() -> dict[Path, Path]:
    """Return the files of the chart that are copies, each with its source: helm reads no other."""
    boards = (ROOT / "deploy" / "grafana").glob("*.json")
    found = {CHART / "files" / "dashboards" / path.name: path for path in boards}
    return found | {CHART / "files" / "rules.yml": ROOT / "deploy" / "prometheus" / "rules.yml"}


def copy_problems() -> Iterator[str]:
    """Yield the copies that are not what their source is, and a wrong release."""
    for path, source in copies().items():
        if not path.is_file() or path.read_bytes() != source.read_bytes():
            yield f"{path.relative_to(ROOT)} is stale: run python -m deploy.check.chart --copy"
    for path in (CHART / "files").rglob("*.*"):
        if path not in copies():
            yield f"{path.relative_to(ROOT)} has no source"
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in ("version", "appVersion"):
        if chart[name] != release:
            yield f"Chart.yaml: {name} is {chart[name]}, the release of the project is {release}"


def main(arguments: Sequence[str] = ()) -> int:
    """Print what is wrong; return 1 if anything is."""
    parser = argparse.ArgumentParser(prog="python -m deploy.check.chart", description=__doc__)
    parser.add_argument("values", nargs="*", type=Path, help="values; all examples by default")
    parser.add_argument("--out", type=Path, help="where the manifest of one file of values goes")
    parser.add_argument("--copy", action="store_true", help="copy alerts and dashboards again")
    given = parser.parse_args(arguments)
    if given.out and len(given.values) != 1:
        parser.error("--out: asked for one file of values")
    if given.copy:
        for path, source in copies().items():
            path.write_bytes(source.read_bytes())
    is_sound = not _reported("chart", list(copy_problems()))
    for path in given.values or sorted(EXAMPLES.rglob("*.yaml")):
        try:
            manifest = rendered(path)
        except (HelmError, MissingToolError) as error:
            _reported(path.name, [str(error)])
            is_sound = False
            continue
        if _reported(path.name, list(manifest_problems(manifest))):
            is_sound = False
            continue
        sys.stdout.write(f"{path.name}: {len(objects_of(manifest))} objects, sound\n")
        if given.out:
            # Without the pod of `helm test`, which `kubectl apply` would start.
            given.out.write_text(rendered(path, further=("--no-hooks",)))
    return 0 if is_sound else 1


def _reported(name: str, found: list[str]) -> bool:
    """Print problems; return whether there are any."""
    for problem in found:
        sys.stderr.write(f"{name}: {problem}\n")
    return bool(found)


def _double_names(objects: list[Manifest]) -> Iterator[str]:
    names = [(found["metadata"].get("namespace"), name_of(found)) for found in objects]
    for namespace, name in sorted({each for each in names if names.count(each) > 1}, key=str):
        yield f"{name} is there twice in the namespace {namespace}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
