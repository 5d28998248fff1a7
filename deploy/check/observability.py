"""Check alerts and dashboards: `python -m deploy.check.observability`, in the root.

Every query is parsed, and every metric and label in it is one that Steppe really exposes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from deploy.grafana.make import dashboards, text_of
from deploy.grafana.panels import BASE_UNITS, SCHEMA_VERSION
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
PROMTOOL_S = 120.0
"""Longest time for a call of promtool, s."""
GATEWAY_PARTS = ("gateway", "router")
PARTS = (*GATEWAY_PARTS, "fleet", "batch", "ledger", "grid", "sites", "agent")
"""Parts of a run that publish metrics: those of each gateway, and all."""
TARGET_LABELS = frozenset({"instance", "job", "gateway", "le", "quantile"})
"""Labels that Prometheus, or one of several gateways, adds."""
NOT_OURS: Mapping[str, frozenset[str]] = {
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
    "node_textfile_mtime_seconds": frozenset({"file"}),
}
"""Metrics of Prometheus and of node_exporter, with their labels."""
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$instance": ".+"}
"""What Grafana puts into a query, and an example of it."""
SHOWS_EMULATED = re.compile(r"\{\{source\}\}|\(emulated\)|unless on \(\) .*emulated")
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}


@dataclass(frozen=True, slots=True)
class Known:
    """What Steppe exposes.

    Attributes:
        labels: Labels of each metric by its name in a query; None where an exposition has no sample
            of it, so that any label passes.
    """

    labels: Mapping[str, frozenset[str] | None] = field(default_factory=dict)

    def problems(self, query: str) -> Iterator[str]:
        """Yield what is wrong with a query."""
        try:
            expression = promql_parser.parse(filled_in(query))
        except ValueError as error:
            yield f"cannot be parsed ({error}): {query}"
            return
        for selector in selectors(expression):
            name = selector.name or ""
            if name not in self.labels:
                yield f"asks for a metric that does not exist, {name}: {query}"
                continue
            asked = {matcher.name for matcher in selector.matchers.matchers}
            if wrong := self.unknown(name, asked):
                yield f"{name} has no label {', '.join(sorted(wrong))}: {query}"
        grouped = {label for labels in groupings(expression) for label in labels}
        names = {selector.name or "" for selector in selectors(expression)}
        wrong = {label for label in grouped if all(self.unknown(name, {label}) for name in names)}
        if wrong and names <= set(self.labels):
            yield f"groups by a label that no metric in it has, {', '.join(sorted(wrong))}: {query}"

    def has_label(self, query: str, label: str) -> bool:
        """Return whether a metric of a query has a label; True for a query that is no PromQL."""
        try:
            found = selectors(promql_parser.parse(filled_in(query)))
        except ValueError:
            return True
        return any(not self.unknown(selector.name or "", {label}) for selector in found)

    def unknown(self, name: str, labels: set[str]) -> set[str]:
        """Return those of some labels that a metric does not have."""
        found = self.labels.get(name)
        return set() if found is None else labels - found - TARGET_LABELS


def known_metrics() -> Known:
    """Return all metrics of the project's own registries, and those of `NOT_OURS`."""
    return Known(dict(NOT_OURS) | _labels_of(whole_exposition()))


def metrics_of_gateways() -> Set[str]:
    """Return the metrics that each gateway publishes for itself."""
    return _labels_of(whole_exposition(GATEWAY_PARTS)).keys()


def whole_exposition(parts: Iterable[str] = PARTS) -> str:
    """Return what some parts of a run publish, from their own registries."""
    sys.path.append(str(ROOT / "docs"))
    from generators import metrics

    return "".join(getattr(metrics, f"{part}_exposition")() for part in parts)


def _labels_of(exposition: str) -> dict[str, frozenset[str] | None]:
    """Return the labels of each metric, by its names in a query; None without a sample."""
    labels: dict[str, frozenset[str] | None] = {}
    for family in text_string_to_metric_families(exposition):
        found = frozenset(label for sample in family.samples for label in sample.labels)
        for suffix in _SUFFIXES.get(family.type, ("",)):
            labels[family.name + suffix] = found if family.samples else None
    return labels


def filled_in(query: str) -> str:
    """Return a query with examples in place of Grafana's variables."""
    for variable, example in VARIABLES.items():
        query = query.replace(variable, example)
    return query


def selectors(expression: promql_parser.Expr) -> list[promql_parser.VectorSelector]:
    """Return all selectors of metrics in an expression."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(expression, visit)
    return found


def groupings(expression: promql_parser.Expr) -> list[list[str]]:
    """Return the labels by which, or without which, an expression aggregates."""
    found: list[list[str]] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.append(node.modifier.labels)

    promql_parser.walk(expression, visit)
    return found


def rule_problems(rules: Mapping[str, Any], known: Known) -> Iterator[str]:
    """Yield what is wrong with the alerts of a file of rules."""
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        alert = rule["alert"]
        yield from (f"{alert} {problem}" for problem in known.problems(rule["expr"]))
        notes = rule.get("annotations", {})
        for name in ("summary", "action"):
            if not notes.get(name, "").strip():
                yield f"{alert} has no annotation {name}"
        if rule.get("labels", {}).get("severity") not in ("critical", "warning"):
            yield f"{alert} has no severity: critical or warning"
        text = " ".join(notes.values())
        for name in re.findall(r"steppe_[a-z_]+", text):
            if name not in known.labels:
                yield f"{alert} names a metric that does not exist, {name}"
        for label in re.findall(r"\$labels\.(\w+)", text):
            if not known.has_label(rule["expr"], label):
                yield f"{alert} shows a label that its metrics do not have, {label}"


def missing_tests(rules: Mapping[str, Any], tests: Mapping[str, Any]) -> Iterator[str]:
    """Yield the alerts without a test in which they fire, and one in which they do not.

    Tests have two sites, `bad` and `good`; an alert on absent metrics has a test for each.
    """
    fires, is_quiet = set[str](), set[str]()
    for test in tests["tests"]:
        asked = test.get("promql_expr_test", ())
        fired = " ".join(sample["labels"] for each in asked for sample in each["exp_samples"])
        series = " ".join(each["series"] for each in test["input_series"])
        if any(each["exp_samples"] for each in asked):
            fires.add(test["name"])
        if 'instance="good"' in series and "good" not in fired:
            is_quiet.add(test["name"])
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    yield from (f"{alert} has no test in which it fires" for alert in sorted(alerts - fires))
    for alert in sorted(alerts - is_quiet):
        yield f"{alert} has no test of a site at which it does not fire"
    yield from (f"a test names {name}, which is no alert" for name in sorted(fires - alerts))


def dashboard_problems(name: str, board: Mapping[str, Any], known: Known) -> Iterator[str]:
    """Yield what is wrong with a dashboard."""
    if board["schemaVersion"] != SCHEMA_VERSION:
        yield f"{name}: schemaVersion is {board['schemaVersion']}, not {SCHEMA_VERSION}"
    titles = {panel["title"] for panel in board["panels"]}
    if "Energy is from" not in titles:
        yield f"{name} has no panel that says where energy is from"
    for panel in board["panels"]:
        where = f"{name}, panel {panel['title']!r}"
        if panel["type"] == "row":
            continue
        unit = panel["fieldConfig"]["defaults"].get("unit")
        if unit not in BASE_UNITS:
            yield f"{where}: {unit} is no base unit"
        for target in panel["targets"]:
            query = target["expr"]
            if target["datasource"]["uid"] != "${datasource}":
                yield f"{where} does not use the variable datasource"
            yield from (f"{where} {problem}" for problem in known.problems(query))
            text = f"{query} {target['legendFormat']}"
            if "joules_total" in query and not SHOWS_EMULATED.search(text):
                yield f"{where} does not show whether its joules are emulated: {query}"


def file_problems() -> Iterator[str]:
    """Yield the files of dashboards that are not what the Python modules say."""
    for name, board in dashboards().items():
        path = GRAFANA / name
        if not path.is_file() or path.read_text() != text_of(board):
            yield f"{name} is stale: run python -m deploy.grafana.make"


def promtool_problems(folder: Path = RULES) -> Iterator[str]:
    """Yield what promtool finds wrong with the alerts and their tests."""
    promtool = shutil.which("promtool")
    if promtool is None:
        yield "promtool is not installed: apt-get install prometheus"
        return
    for arguments in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ):
        done = subprocess.run(
            [promtool, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PROMTOOL_S,
            check=False,
        )
        if done.returncode != 0:
            yield f"promtool {' '.join(arguments)}: {done.stdout}{done.stderr}"


def problems() -> Iterator[str]:
    """Yield everything that is wrong with alerts and dashboards."""
    known = known_metrics()
    rules = yaml.safe_load((RULES / "rules.yml").read_text())
    yield from rule_problems(rules, known)
    yield from missing_tests(rules, yaml.safe_load((RULES / "rules_test.yml").read_text()))
    yield from file_problems()
    for path in sorted(GRAFANA.glob("*.json")):
        yield from dashboard_problems(path.name, json.loads(path.read_text()), known)
    yield from promtool_problems()


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    found = list(problems())
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if not found:
        sys.stdout.write("alerts and dashboards are sound\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
