"""Debian's Prometheus scrapes what Steppe's registries publish, and answers every panel."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

pytest.importorskip("promql_parser", reason="pip install promql-parser (extra `deploy`)")

from deploy.check.no_series import REASONS, reason_of
from deploy.check.observability import RULES, known_metrics, whole_exposition
from deploy.check.on_prometheus import (
    Asked,
    ask_alerts,
    ask_panels,
    lines_of,
    main,
    silent,
    unanswered,
)
from deploy.check.prometheus_server import scraping, settings
from deploy.grafana.make import dashboards
from deploy.grafana.panels import Target, dashboard, lines

NEEDS_PROMETHEUS = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="apt-get install prometheus"
)
POWER = frozenset({"steppe_power_watts"})
ALERTS = yaml.safe_load((RULES / "rules.yml").read_text())


@contextmanager
def served(exposition: str) -> Iterator[str]:
    """Serve an exposition, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(exposition.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join()


def asked(place: str, *names: str, metrics: frozenset[str] = POWER, query: str = "m") -> Asked:
    return Asked(place, query, "draw", names, metrics)


def test_a_panel_that_returns_nothing_though_its_metrics_have_samples_is_silent() -> None:
    found = [
        asked("a"),
        asked("a", "draw"),
        asked("b"),
        asked("c", metrics=POWER | {"steppe_absent"}),
    ]
    assert silent(found, POWER) == ["b"]


def test_each_query_is_a_line_that_says_why_it_has_no_series() -> None:
    found = [
        asked("a", "r0", "r1"),
        asked("b", metrics=POWER | {"steppe_absent"}),
        Asked("c", "m", "", (), POWER, "parse error"),
    ]
    assert list(lines_of(found, POWER)) == [
        "  2 series: a: draw",
        "  0 series: b: draw (no samples of steppe_absent)",
        "  error:  c: parse error: m",
    ]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("sum(rate(steppe_rejections_total[5m]))", "no request was refused for want of"),
        ("rate(steppe_sites_hops_total[5m])", "no request went to another site"),
        ("m", "a run without the section grid"),
        ('(m) unless on () steppe_energy_joules_total{source="emulated"}', "energy is emulated"),
        ('(m) and on () steppe_energy_joules_total{source="emulated"}', "energy is measured"),
    ],
)
def test_a_query_without_series_has_a_reason(query: str, why: str) -> None:
    absent = frozenset({"steppe_grid_limit_watts"}) if query == "m" else frozenset()
    (line,) = lines_of([asked("a", query=query, metrics=absent)], POWER)
    assert why in line


def test_a_metric_that_is_absent_from_a_section_that_runs_has_no_such_reason() -> None:
    absent = frozenset({"steppe_grid_limit_watts"})
    (line,) = lines_of([asked("a", metrics=absent)], frozenset({"steppe_grid_link_lost"}))
    assert line.endswith("(no samples of steppe_grid_limit_watts)")


def test_a_query_is_unanswered_without_series_reason_and_twin() -> None:
    measured, emulated = (
        Asked("a", "m", legend, names, POWER)
        for legend, names in (("draw", ()), ("draw (emulated)", ("draw (emulated)",)))
    )
    assert unanswered([measured, emulated]) == []
    assert unanswered([measured]) == [measured]
    assert unanswered([asked("a", query="steppe_rejections_total")]) == []


def test_series_that_share_a_legend_are_doubled() -> None:
    assert asked("a", "r0", "r1", "r0").doubled == ["r0"]


def test_each_reason_is_of_a_metric_that_a_dashboard_or_an_alert_asks_for() -> None:
    queries = [
        target["expr"]
        for board in dashboards().values()
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]
    queries += [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    assert {name for name in REASONS if not any(name in query for query in queries)} == set()
    metrics = {name for name in REASONS if name.startswith("steppe_")}
    assert metrics <= set(known_metrics().labels)


def test_the_settings_are_those_of_the_file_with_other_addresses() -> None:
    found = settings({"steppe": "https://a:1/metrics", "node": "http://b:2/metrics"})
    steppe, node = found["scrape_configs"]
    assert (steppe["job_name"], steppe["scheme"], node["job_name"]) == ("steppe", "https", "node")
    assert steppe["static_configs"] == [{"targets": ["a:1"], "labels": {"instance": "site-1"}}]
    assert found["rule_files"] == [str(RULES / "rules.yml")]


@pytest.mark.parametrize("arguments", [[], ["http://a/metrics", "--url", "http://b"]])
def test_one_address_is_asked_for(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "asked for the address of metrics or --url, found" in capsys.readouterr().err


def test_a_prometheus_that_does_not_answer_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:9"]) == 2
    assert capsys.readouterr().err.startswith("http://127.0.0.1:9: ")


@pytest.mark.slow
@pytest.mark.timeout(300)
@NEEDS_PROMETHEUS
@pytest.mark.parametrize("source", ["counter", "emulated"])
def test_every_panel_returns_series(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exposition = whole_exposition().replace('source="counter"', f'source="{source}"')
    with served(exposition) as url, scraping({"steppe": url}, tmp_path) as prometheus:
        found = ask_panels(prometheus, dashboards())
        names, rules = prometheus.metrics(), prometheus.rules()
        alerts = ask_alerts(prometheus, ALERTS)
        assert main(["--url", prometheus.url, "--site", "site-1"]) == 0
        assert "series: sites.json, panel 'Surplus'" in capsys.readouterr().out
        assert main(["--url", prometheus.url, "--site", "site-2"]) == 1
        assert "silent: fleet.json, panel 'Budget of the GPUs'" in capsys.readouterr().err
    assert silent(found, names) == []
    assert [each for each in (*found, *alerts) if each.problem or each.doubled] == []
    marked = {each.place for each in found if each.series and each.legend.endswith("(emulated)")}
    assert bool(marked) is (source == "emulated")
    assert len(rules) > 28
    assert {rule["health"] for rule in rules} == {"ok"}


@pytest.mark.slow
@pytest.mark.timeout(300)
@NEEDS_PROMETHEUS
def test_queries_that_only_prometheus_finds_wrong_are_told(tmp_path: Path) -> None:
    pair = "steppe_replicas * on () group_left steppe_replicas"
    shown = lines("Draw", "", "watt", Target(pair, "{{state}}"))
    exposition = '# TYPE steppe_replicas gauge\nsteppe_replicas{state="a"} 1\n'
    exposition += 'steppe_replicas{state="b"} 1\n'
    with served(exposition) as url, scraping({"steppe": url}, tmp_path) as prometheus:
        (found,) = ask_panels(prometheus, {"x.json": dashboard("x", "X", "", [shown])})
        assert reason_of(found.query) == ""
        assert "many-to-many matching not allowed" in found.problem
