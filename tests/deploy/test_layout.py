"""Dashboards look as they should, and what would look wrong is found."""

from __future__ import annotations

from copy import deepcopy

import pytest

pytest.importorskip("promql_parser", reason="pip install promql-parser (extra `deploy`)")

import promql_parser
from deploy.check.layout import gateway_problems, labels_of, layout_problems, main, problems
from deploy.check.observability import Known, known_metrics
from deploy.grafana.make import dashboards
from deploy.grafana.panels import Json, Target, bars, dashboard, lines, number

KNOWN = known_metrics()
A_B = Known({"m": frozenset({"a", "b"}), "n": frozenset({"a", "c"}), "any": None})


def board(*panels: Json) -> Json:
    return dashboard("x", "X", "", panels)


def panel(query: str, legend: str, title: str = "Draw") -> Json:
    return lines(title, "", "watt", Target(query, legend), width=24)


def found(shown: Json) -> list[str]:
    return list(problems({"x.json": shown}, A_B))


def test_all_dashboards_look_as_they_should(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    assert capsys.readouterr().out == "panels, titles and legends are sound\n"


def test_panels_that_lie_on_each_other_or_outside_are_found() -> None:
    shown = deepcopy(dashboards()["fleet.json"])
    shown["panels"][2]["gridPos"] |= {"x": 2}
    shown["panels"][5]["gridPos"] |= {"x": 22}
    told = " ".join(layout_problems("fleet.json", shown))
    assert "lies on 'Energy is from'" in told
    assert "ends outside the 24 columns" in told


def test_a_hole_between_panels_is_found() -> None:
    shown = board(number("Budget", "", "watt"), number("Draw", "", "watt"), panel("m", "{{a}}"))
    assert found(shown) == ["x.json: 16 columns are free at height 0"]


def test_a_title_that_is_missing_too_long_or_there_twice_is_found() -> None:
    told = found(board(panel("m", "{{a}}", " "), panel("m", "{{a}}"), panel("m", "{{a}}")))
    assert told == ["x.json has a panel without a title", "x.json, panel 'Draw' is there twice"]
    long = "Share of the requests of all tenants that wait"
    narrow = [number(f"{long} {n}", "", "none", width=4) for n in range(6)]
    assert sum("too long for 4 columns" in each for each in found(board(*narrow))) == 6


def test_a_legend_with_a_label_that_was_summed_away_is_found() -> None:
    assert found(board(panel("sum by (a) (m)", "{{a}} {{b}}"))) == [
        "x.json, panel 'Draw': no series has the label b"
    ]


def test_a_metric_of_each_gateway_that_is_not_summed_is_found() -> None:
    queries = ("steppe_m", "sum by (a) (steppe_m)", "max without (gateway) (steppe_m)")
    shown = board(*(panel(query, "{{a}}", query) for query in queries))
    known = Known({"steppe_m": frozenset({"a"})})
    assert list(gateway_problems("x.json", shown, known, {"steppe_m"})) == [
        "x.json, panel 'steppe_m' does not sum over gateways"
    ]


def test_a_line_that_asks_for_the_whole_time_shown_is_found() -> None:
    query = "increase(m[$__range])"
    assert found(board(panel(query, "{{a}}"))) == ["x.json, panel 'Draw': lines ask for $__range"]
    asked = bars("Draw", "", "watt", Target(query, "{{a}}"), width=24)
    assert found(board(asked)) == []
    assert asked["targets"][0]["instant"]
    fixed = found(board(panel("rate(m[5m])", "{{a}}")))
    assert fixed == ["x.json, panel 'Draw': asks for the fixed time 5m"]


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("sum(m)", ""),
        ("sum by (a) (rate(m[5m]))", "a"),
        ("sum without (a) (m)", "b"),
        ("m > 0", "a b"),
        ("2 * m", "a b"),
        ("m / n", "a"),
        ("m * on (a) group_left n", "a b"),
        ("m unless on () n", "a b"),
        ("(m) or n", "a b c"),
        ("max_over_time((m + 1)[1h:5m])", "a b"),
        ("vector(0)", ""),
    ],
)
def test_the_labels_of_a_query_follow_from_its_operators(query: str, labels: str) -> None:
    everywhere = {"instance", "job", "gateway", "le", "quantile"}
    left = labels_of(promql_parser.parse(query), A_B)
    assert left is not None
    assert left - everywhere == frozenset(labels.split())


def test_a_metric_without_samples_may_have_any_label() -> None:
    assert labels_of(promql_parser.parse("any / m"), A_B) is None
    assert labels_of(promql_parser.parse("sum by (a) (any)"), A_B) == frozenset({"a"})
