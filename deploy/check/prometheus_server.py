"""Debian's Prometheus, started with the alerts and with `prometheus.yml` at other addresses."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from deploy.check.observability import RULES

START_S, SCRAPES, SCRAPES_S = 120.0, 4, 180.0
"""Longest time for Prometheus to start, s; scrapes before the first query, and time for them, s."""
INTERVAL = "2s"
"""Time between two scrapes; also the longest time for one, which a busy machine needs."""
ASK_S = 30.0
"""Longest time for an answer, s."""
POLL_S = 0.1


class QueryError(Exception):
    """Prometheus finds a query wrong."""


class Prometheus:
    """A Prometheus.

    Attributes:
        url: Its address, such as `http://prometheus:9090`.
    """

    def __init__(self, url: str) -> None:
        """Remember its address."""
        self.url = url.rstrip("/")

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer.

        Raises:
            QueryError: It finds the query wrong.
            OSError: It does not answer.
        """
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=ASK_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code not in (400, 422):
                raise
            raise QueryError(json.load(error)["error"]) from error

    def series(self, query: str) -> list[Mapping[str, Any]]:
        """Return the series of an instant query.

        Raises:
            QueryError: The query is wrong.
            OSError: It does not answer.
        """
        found: list[Mapping[str, Any]] = self.ask("query", query=query)["result"]
        return found

    def metrics(self) -> frozenset[str]:
        """Return the names of the metrics that have samples now."""
        found = self.series('count by (__name__) ({__name__=~".+"})')
        return frozenset(each["metric"]["__name__"] for each in found)

    def rules(self) -> list[Mapping[str, Any]]:
        """Return the alerts with their health and state."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]


@contextlib.contextmanager
def scraping(
    targets: Mapping[str, str], folder: Path, port: int | None = None
) -> Iterator[Prometheus]:
    """Start a Prometheus that has scraped some addresses a few times.

    Args:
        targets: The address of the metrics of each job, of those in `prometheus.yml`.
        folder: Where its files go.
        port: Where it listens; a free one if None.

    Raises:
        TimeoutError: It does not start, or an address has no metrics.
        FileNotFoundError: Prometheus is not installed.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        raise FileNotFoundError("prometheus is not installed: apt-get install prometheus")
    port = _free_port() if port is None else port
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings(targets)))
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
        for job, address in targets.items():
            up = f'up{{job="{job}"}}'
            enough = f"count_over_time({up}[5m]) >= {SCRAPES} and {up} == 1"
            _wait(partial(found.series, enough), SCRAPES_S, f"no metrics at {address}")
        _wait(lambda: _are_evaluated(found.rules()), SCRAPES_S, "alerts are not evaluated")
        yield found
    finally:
        process.terminate()
        process.wait(timeout=START_S)


def settings(targets: Mapping[str, str]) -> Mapping[str, Any]:
    """Return `prometheus.yml` with other addresses, more often, and only with these jobs."""
    found: dict[str, Any] = yaml.safe_load((RULES / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in found["scrape_configs"] if job["job_name"] in targets}
    for name, job in jobs.items():
        address = urllib.parse.urlsplit(targets[name])
        job |= {"scheme": address.scheme, "metrics_path": address.path}
        (static,) = job["static_configs"]
        static["targets"] = [address.netloc]
    return {
        "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": [str(RULES / name) for name in found["rule_files"]],
        "scrape_configs": list(jobs.values()),
    }


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


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
