"""Alerts and dashboards are sound, and mistakes in them are found."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("promql_parser", reason="pip install promql-parser (extra `deploy`)")

from deploy.check.observability import (
    ROOT,
    RULES,
    Known,
    dashboard_problems,
    file_problems,
    known_metrics,
    main,
    missing_tests,
    promtool_problems,
    rule_problems,
)
from deploy.grafana.make import dashboards
from deploy.grafana.panels import Json

KNOWN = known_metrics()
BOARDS = dashboards()
NEEDS_PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="apt-get install prometheus"
)


@pytest.fixture
def rules() -> Json:
    found: Json = yaml.safe_load((RULES / "rules.yml").read_text())
    return found


@pytest.fixture
def tests() -> Json:
    found: Json = yaml.safe_load((RULES / "rules_test.yml").read_text())
    return found


def first_rule(rules: Json) -> Json:
    rule: Json = rules["groups"][0]["rules"][0]
    return rule


def board_with(**changes: Any) -> Json:
    """Return the dashboard of the fleet with another target in its second panel."""
    board = deepcopy(BOARDS["fleet.json"])
    board["panels"][1]["targets"][0] |= changes
    return board


def test_alerts_are_sound_and_have_tests(rules: Json, tests: Json) -> None:
    assert list(rule_problems(rules, KNOWN)) == []
    assert list(missing_tests(rules, tests)) == []


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_sound(name: str) -> None:
    assert list(dashboard_problems(name, BOARDS[name], KNOWN)) == []


def test_the_files_of_dashboards_are_what_the_modules_say() -> None:
    assert list(file_problems()) == []


def test_each_dashboard_has_its_own_uid() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 5


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("sum(steppe_power_watt)", "does not exist, steppe_power_watt:"),
        ("rate(steppe_energy_joules[5m])", "does not exist, steppe_energy_joules:"),
        ("steppe_time_to_first_token_seconds", "does not exist"),
        ("sum(steppe_power_watts", "cannot be parsed"),
        ("rate(steppe_output_tokens_total)", "cannot be parsed"),
        ('steppe_replicas{stat="awake"}', "has no label stat"),
        ("sum by (tenants) (steppe_power_watts)", "label that no metric in it has, tenants"),
        ("max_over_time((steppe_x + 1)[1h:5m])", "does not exist, steppe_x:"),
    ],
)
def test_a_mistake_in_a_query_is_found(query: str, problem: str) -> None:
    found = list(KNOWN.problems(query))
    assert len(found) == 1
    assert problem in found[0]


def test_a_query_with_variables_of_grafana_is_parsed() -> None:
    buckets = 'steppe_time_to_first_token_seconds_bucket{instance=~"$instance"}'
    query = f"sum by (le) (rate({buckets}[$__range]))"
    assert list(KNOWN.problems(query)) == []


def test_a_metric_without_a_sample_takes_any_label() -> None:
    known = Known({"a": None, "b": frozenset({"x"})})
    assert list(known.problems('a{y="1"}')) == []
    assert len(list(known.problems('b{y="1"}'))) == 1


def test_a_dashboard_with_a_query_for_no_metric_is_found() -> None:
    found = list(dashboard_problems("f", board_with(expr="steppe_budget_watts"), KNOWN))
    assert len(found) == 1
    assert "steppe_budget_watts" in found[0]


def test_joules_that_do_not_show_whether_they_are_emulated_are_found() -> None:
    board = board_with(expr="sum(increase(steppe_energy_joules_total[1h]))", legendFormat="energy")
    found = list(dashboard_problems("f", board, KNOWN))
    assert len(found) == 1
    assert "emulated" in found[0]


def test_a_dashboard_of_another_unit_or_schema_or_datasource_is_found() -> None:
    board = board_with(datasource={"type": "prometheus", "uid": "mine"})
    board["schemaVersion"] = 36
    board["panels"][1]["fieldConfig"]["defaults"]["unit"] = "kwatt"
    board["panels"] = board["panels"][1:]
    found = " ".join(dashboard_problems("f", board, KNOWN))
    for problem in ("schemaVersion is 36", "kwatt is no base unit", "datasource", "says where"):
        assert problem in found


def test_a_rule_without_a_test_is_found(rules: Json, tests: Json) -> None:
    tests["tests"] = [test for test in tests["tests"] if test["name"] != "SteppeOverBudget"]
    assert list(missing_tests(rules, tests)) == [
        "SteppeOverBudget has no test in which it fires",
        "SteppeOverBudget has no test of a site at which it does not fire",
    ]


def test_a_rule_whose_tests_all_fire_is_found(rules: Json, tests: Json) -> None:
    (test,) = (test for test in tests["tests"] if test["name"] == "SteppeOverBudget")
    test["input_series"] = [each for each in test["input_series"] if "bad" in each["series"]]
    assert list(missing_tests(rules, tests)) == [
        "SteppeOverBudget has no test of a site at which it does not fire"
    ]


def test_a_rule_that_does_not_say_what_to_do_is_found(rules: Json) -> None:
    rule = first_rule(rules)
    del rule["annotations"]["action"], rule["labels"]["severity"]
    rule["annotations"]["summary"] = "{{ $labels.tenant }} and steppe_no_metric"
    found = " ".join(rule_problems(rules, KNOWN))
    for problem in ("annotation action", "severity", "tenant", "steppe_no_metric"):
        assert problem in found


def test_the_page_of_alerts_has_all_of_them_with_their_severity(rules: Json) -> None:
    page = (ROOT / "docs" / "operate" / "dashboards.md").read_text()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `Steppe")}
    found = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}
    assert rows.keys() == found.keys()
    for name, row in rows.items():
        assert row.endswith(f"| {found[name]['labels']['severity']} |")


@pytest.mark.slow
@NEEDS_PROMTOOL
def test_promtool_finds_nothing() -> None:
    assert list(promtool_problems()) == []


@pytest.mark.slow
@NEEDS_PROMTOOL
def test_promtool_finds_a_rule_that_fires_too_early(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "rules.yml", "rules_test.yml"):
        text = (RULES / name).read_text()
        (tmp_path / name).write_text(text.replace("for: 1m", "for: 15s"))
    (found,) = promtool_problems(tmp_path)
    assert "SteppeOverBudget" in found


def test_a_machine_without_promtool_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main() == 1
    assert capsys.readouterr().err == "promtool is not installed: apt-get install prometheus\n"
