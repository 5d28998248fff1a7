"""Run every query of the dashboards and alerts on a Prometheus that scrapes a run.

`python -m deploy.check.on_prometheus --url http://prometheus:9090`, in the root, asks the
Prometheus of a site. With the address of the metrics of a gateway instead, such as
`http://127.0.0.1:8000/metrics`, it starts Debian's Prometheus with the alerts, which scrapes that
address every 2 s. It says how many series each panel and each alert has, and why it has none.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from deploy.check.no_series import reason_of, section_of, source_of
from deploy.check.observability import RULES, filled_in, selectors
from deploy.check.prometheus_server import Prometheus, QueryError, scraping
from deploy.grafana.make import dashboards
from deploy.grafana.panels import MARK, Json


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that was asked.

    Attributes:
        place: Its dashboard and panel, or its alert.
        query: The query.
        legend: Name of its series; empty for an alert.
        names: The names of its series, as the legend has them.
        metrics: The metrics that it names.
        problem: What Prometheus found wrong with it; empty if nothing.
    """

    place: str
    query: str
    legend: str
    names: tuple[str, ...]
    metrics: frozenset[str]
    problem: str = ""

    @property
    def series(self) -> int:
        """Number of series in the answer."""
        return len(self.names)

    @property
    def doubled(self) -> list[str]:
        """Names that more than one of its series has."""
        return sorted({name for name in self.names if self.names.count(name) > 1})


def ask_panels(prometheus: Prometheus, boards: Mapping[str, Json], site: str = ".+") -> list[Asked]:
    """Ask the queries of all panels of some dashboards.

    Args:
        prometheus: Where to ask.
        boards: Dashboards by the names of their files.
        site: The instances that are shown, a regular expression.
    """
    return [
        _asked(
            prometheus,
            f"{name}, panel {panel['title']!r}",
            target["expr"].replace("$instance", site),
            target["legendFormat"],
        )
        for name, board in boards.items()
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]


def ask_alerts(prometheus: Prometheus, rules: Mapping[str, Any]) -> list[Asked]:
    """Ask each selector in the alerts of a file of rules, and each alert as a whole.

    An alert that does not fire has no series; each of its selectors has some.
    """
    asked = []
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        query = promql_parser.parse(rule["expr"])
        asked += [
            _asked(prometheus, f"alert {rule['alert']}", each.prettify(), "")
            for each in selectors(query)
        ]
        prometheus.series(rule["expr"])
    return asked


def silent(asked: Iterable[Asked], with_samples: frozenset[str]) -> list[str]:
    """Return the panels without a series, though all metrics of one of their queries have samples.

    Args:
        asked: The queries of all panels.
        with_samples: Names of the metrics that have samples.
    """
    panels: dict[str, list[Asked]] = {}
    for each in asked:
        panels.setdefault(each.place, []).append(each)
    return [
        name
        for name, queries in panels.items()
        if not any(each.series for each in queries)
        and any(each.metrics <= with_samples and not reason_of(each.query) for each in queries)
    ]


def lines_of(asked: Iterable[Asked], with_samples: frozenset[str]) -> Iterator[str]:
    """Yield a line for people for each query: how many series it has, and why none."""
    for each in asked:
        line = f"{each.series:3d} series: {each.place}: {each.legend or each.query}"
        if each.problem:
            line = f"  error:  {each.place}: {each.problem}: {each.query}"
        elif not each.series:
            line += f" ({_why_none(each, with_samples)})"
        yield line


def unanswered(asked: Iterable[Asked]) -> list[Asked]:
    """Return the queries that have no series, and neither a reason nor a twin in their panel.

    The twin of a query has the same legend, for energy that is emulated.
    """
    queries = list(asked)
    found = {(each.place, _twin(each.legend)) for each in queries if each.series}
    return [
        each
        for each in queries
        if not each.series
        and (each.place, _twin(each.legend)) not in found
        and not reason_of(each.query)
    ]


def _twin(legend: str) -> str:
    return legend.removesuffix(MARK)


def _why_none(asked: Asked, with_samples: frozenset[str]) -> str:
    absent = asked.metrics - with_samples
    reason = reason_of(asked.query) or source_of(asked.query)
    if why := section_of(absent, with_samples) or reason:
        return why
    return f"no samples of {', '.join(sorted(absent))}" if absent else "though there are samples"


def _asked(prometheus: Prometheus, place: str, expression: str, legend: str) -> Asked:
    query = filled_in(expression)
    metrics = frozenset(each.name or "" for each in selectors(promql_parser.parse(query)))
    try:
        series = prometheus.series(query)
    except QueryError as error:
        return Asked(place, query, legend, (), metrics, str(error))
    names = tuple(_named(legend, each["metric"]) for each in series)
    return Asked(place, query, legend, names, metrics)


def _named(legend: str, labels: Mapping[str, str]) -> str:
    if not legend:
        return str(sorted(labels.items()))
    for label, value in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend


def report(prometheus: Prometheus, site: str) -> int:
    """Print what each panel and alert has; return 1 if a query is wrong, or a panel is silent."""
    rules = yaml.safe_load((RULES / "rules.yml").read_text())
    panels, names = ask_panels(prometheus, dashboards(), site), prometheus.metrics()
    asked = [*panels, *ask_alerts(prometheus, rules)]
    for line in lines_of(asked, names):
        sys.stdout.write(f"{line}\n")
    loaded = prometheus.rules()
    awake = [f"{rule['name']} ({rule['state']})" for rule in loaded if rule["state"] != "inactive"]
    sys.stdout.write(f"alerts that are not inactive: {', '.join(awake) or 'none'}\n")
    problems = [f"error: {each.place}: {each.problem}" for each in asked if each.problem]
    problems += [f"silent: {panel}" for panel in silent(panels, names)]
    problems += [f"broken: {rule['name']}" for rule in loaded if rule["health"] == "err"]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


def main(arguments: Sequence[str]) -> int:
    """Ask the Prometheus of a site, or one that is started for a gateway."""
    parser = argparse.ArgumentParser(prog="python -m deploy.check.on_prometheus")
    parser.add_argument("metrics", nargs="?", help="start a Prometheus that scrapes this address")
    parser.add_argument("--url", help="the address of a Prometheus that scrapes Steppe")
    parser.add_argument("--site", default=".+", help="only this instance, a regular expression")
    chosen = parser.parse_args(arguments)
    if (chosen.metrics is None) == (chosen.url is None):
        found = "neither" if chosen.url is None else "both"
        parser.error(f"asked for the address of metrics or --url, found {found}")
    try:
        if chosen.url is not None:
            return report(Prometheus(chosen.url), chosen.site)
        with (
            tempfile.TemporaryDirectory() as folder,
            scraping({"steppe": chosen.metrics}, Path(folder)) as prometheus,
        ):
            return report(prometheus, chosen.site)
    except OSError as error:
        sys.stderr.write(f"{chosen.url or chosen.metrics}: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
