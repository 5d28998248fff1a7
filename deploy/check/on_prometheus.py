"""Run every query of the dashboards on a real Prometheus that scrapes a gateway.

`python -m deploy.check.on_prometheus http://127.0.0.1:8000/metrics`, in the root, while a run
serves. It starts Debian's Prometheus with the alerts, scrapes the address each second, and asks
each query. A panel whose metrics have samples has to return series.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from deploy.check.observability import RULES, filled_in, selectors
from deploy.grafana.make import dashboards
from prometheus_client.parser import text_string_to_metric_families

START_S, SCRAPES, SCRAPES_S = 60.0, 4, 60.0
"""Longest time for Prometheus to start, s; scrapes before the first query, and time for them, s."""
ASK_S = 10.0
"""Longest time for an answer, s."""
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that was asked.

    Attributes:
        panel: Its dashboard and its panel.
        query: The query.
        legend: Name of its series.
        series: Number of series in the answer.
        metrics: The metrics that it names.
    """

    panel: str
    query: str
    legend: str
    series: int
    metrics: frozenset[str]


class Prometheus:
    """A Prometheus of its own; it has an HTTP API at a free port."""

    def __init__(self, url: str) -> None:
        """Remember its address."""
        self._url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer.

        Raises:
            OSError: It does not answer, or finds the query wrong.
        """
        address = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=ASK_S) as answer:
            return json.load(answer)["data"]

    def series(self, query: str) -> list[Mapping[str, Any]]:
        """Return the series of an instant query."""
        found: list[Mapping[str, Any]] = self.ask("query", query=query)["result"]
        return found

    def rules(self) -> list[Mapping[str, Any]]:
        """Return the alerts with their health and state."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]


@contextlib.contextmanager
def scraping(url: str, folder: Path) -> Iterator[Prometheus]:
    """Start a Prometheus that has scraped an address a few times.

    Args:
        url: The address of the metrics.
        folder: Where its files go.

    Raises:
        TimeoutError: It does not start, or the address has no metrics.
        FileNotFoundError: Prometheus is not installed.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        raise FileNotFoundError("prometheus is not installed: apt-get install prometheus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_settings(url)))
    options = (
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    )
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([binary, *options], stdout=log, stderr=log)
    try:
        found = Prometheus(f"http://127.0.0.1:{port}")
        _wait(lambda: found.series("vector(1)"), START_S, f"the log is {log.name}")
        enough = f'count_over_time(up[5m]) >= {SCRAPES} and up{{job="steppe"}} == 1'
        _wait(lambda: found.series(enough), SCRAPES_S, f"no metrics at {url}")
        _wait(lambda: _are_evaluated(found.rules()), SCRAPES_S, "alerts are not evaluated")
        yield found
    finally:
        process.terminate()
        process.wait(timeout=START_S)


def ask_all(prometheus: Prometheus) -> list[Asked]:
    """Ask the queries of all panels."""
    asked = []
    for name, board in dashboards().items():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                query = filled_in(target["expr"])
                metrics = {each.name or "" for each in selectors(promql_parser.parse(query))}
                asked.append(
                    Asked(
                        f"{name}, panel {panel['title']!r}",
                        query,
                        target["legendFormat"],
                        len(prometheus.series(query)),
                        frozenset(metrics),
                    )
                )
    return asked


def silent_panels(asked: list[Asked], with_samples: frozenset[str]) -> list[str]:
    """Return the panels without a series, though all metrics of one of their queries have samples.

    Args:
        asked: The queries of all panels.
        with_samples: Names of the metrics that have samples.
    """
    panels: dict[str, list[Asked]] = {}
    for each in asked:
        panels.setdefault(each.panel, []).append(each)
    return [
        name
        for name, queries in panels.items()
        if not any(each.series for each in queries)
        and any(each.metrics <= with_samples for each in queries)
    ]


def names_of(exposition: str) -> frozenset[str]:
    """Return the names of the samples of an exposition."""
    families = text_string_to_metric_families(exposition)
    return frozenset(sample.name for family in families for sample in family.samples)


def main(url: str) -> int:
    """Print how many series each panel of the dashboards returns; return 1 if one is silent."""
    with urllib.request.urlopen(url, timeout=ASK_S) as answer:
        names = names_of(answer.read().decode())
    with tempfile.TemporaryDirectory() as folder, scraping(url, Path(folder)) as prometheus:
        asked = ask_all(prometheus)
        rules = prometheus.rules()
    silent = silent_panels(asked, names)
    for each in asked:
        sys.stdout.write(f"{each.series:3d} series: {each.panel}: {each.legend}\n")
    broken = [rule["name"] for rule in rules if rule["health"] == "err"]
    awake = [f"{rule['name']} ({rule['state']})" for rule in rules if rule["state"] != "inactive"]
    sys.stdout.write(f"alerts that are not inactive: {', '.join(awake) or 'none'}\n")
    for problem in (*(f"silent: {panel}" for panel in silent), *(f"broken: {b}" for b in broken)):
        sys.stderr.write(f"{problem}\n")
    return 1 if silent or broken else 0


def _settings(url: str) -> Mapping[str, Any]:
    address = urllib.parse.urlsplit(url)
    job = {
        "job_name": "steppe",
        "scheme": address.scheme,
        "metrics_path": address.path,
        "static_configs": [{"targets": [address.netloc]}],
    }
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES / "rules.yml")],
        "scrape_configs": [job],
    }


def _are_evaluated(rules: Sequence[Mapping[str, Any]]) -> bool:
    return all(rule["health"] != "unknown" for rule in rules)


def _wait(is_there: Callable[[], object], most_s: float, problem: str) -> None:
    deadline_s = time.monotonic() + most_s
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError):
            if is_there():
                return
        time.sleep(POLL_S)
    raise TimeoutError(f"waited {most_s:.0f} s for Prometheus: {problem}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("asked for one address of metrics, such as http://127.0.0.1:8000/metrics")
    sys.exit(main(sys.argv[1]))
