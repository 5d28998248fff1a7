"""Check what one sees at first on a dashboard: `python -m deploy.check.layout`, in the root.

Panels fill the screen and lie on no other, titles fit, legends name labels that series have, and
no line asks for something in the whole time shown.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping, Set
from typing import Any

import promql_parser
from deploy.check.observability import (
    TARGET_LABELS,
    VARIABLES,
    Known,
    filled_in,
    known_metrics,
    metrics_of_gateways,
    selectors,
)
from deploy.grafana.make import dashboards
from deploy.grafana.panels import COLUMNS

CHARS_OF_A_COLUMN = 9
"""Letters of a title that one of the 24 columns has room for on a screen of 1,920 pixels."""
_SET_OPERATORS = ("and", "unless")
_Cell = tuple[int, int]


def layout_problems(name: str, board: Mapping[str, Any]) -> Iterator[str]:
    """Yield panels that lie on others, holes between panels, and titles that cannot be read."""
    taken: dict[_Cell, str] = {}
    titles: set[tuple[str, str]] = set()
    for panel in board["panels"]:
        title, place = panel["title"].strip(), panel["gridPos"]
        where = f"{name}, panel {title!r}"
        if not title:
            yield f"{name} has a panel without a title"
        if len(title) > CHARS_OF_A_COLUMN * place["w"]:
            yield f"{where}: the title is too long for {place['w']} columns"
        if (panel["type"], title) in titles:
            yield f"{where} is there twice"
        titles.add((panel["type"], title))
        if place["x"] + place["w"] > COLUMNS:
            yield f"{where} ends outside the {COLUMNS} columns"
        cells = dict.fromkeys(_cells(place), title)
        if other := next((taken[cell] for cell in cells if cell in taken), None):
            yield f"{where} lies on {other!r}"
        taken |= cells
    height = 1 + max((y for _, y in taken), default=-1)
    for y in range(height):
        free = sum((x, y) not in taken for x in range(COLUMNS))
        above = all((x, y - 1) in taken for x in range(COLUMNS))
        if free and (y == 0 or above):
            yield f"{name}: {free} columns are free at height {y}"


def legend_problems(name: str, board: Mapping[str, Any], known: Known) -> Iterator[str]:
    """Yield legends that name a label which the series of their query do not have."""
    for title, legend, query in _queries(board):
        asked = set(re.findall(r"\{\{(\w+)\}\}", legend))
        found = labels_of(query, known)
        if found is not None and (wrong := asked - found):
            yield f"{name}, panel {title!r}: no series has the label {', '.join(sorted(wrong))}"


def gateway_problems(
    name: str, board: Mapping[str, Any], known: Known, of_gateways: Set[str]
) -> Iterator[str]:
    """Yield queries that show a series for each of several gateways under one name.

    Args:
        name: Name of the file.
        board: The dashboard.
        known: What Steppe exposes.
        of_gateways: Metrics that get a label `gateway` where a run has several.
    """
    for title, legend, query in _queries(board):
        asked, labels = {each.name for each in selectors(query)}, labels_of(query, known)
        is_shown = "{{gateway}}" in legend
        if asked & of_gateways and not is_shown and (labels is None or "gateway" in labels):
            yield f"{name}, panel {title!r} does not sum over gateways"


def range_problems(name: str, board: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines of a rise over the whole time shown: each point would be another such time."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            if panel["type"] == "timeseries" and "$__range" in target["expr"]:
                yield f"{name}, panel {panel['title']!r}: lines ask for $__range"
            for window in re.findall(r"\[([^\]]+)\]", target["expr"]):
                if window not in VARIABLES:
                    yield f"{name}, panel {panel['title']!r}: asks for the fixed time {window}"


def labels_of(query: promql_parser.Expr, known: Known) -> frozenset[str] | None:
    """Return the labels that series of a query may have; None if any label is possible."""
    match query:
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            return labels_of(query.expr, known)
        case promql_parser.AggregateExpr():
            return _of_aggregate(query, known)
        case promql_parser.BinaryExpr():
            return _of_both(query, known)
        case promql_parser.Call():
            found = [labels_of(each, known) for each in query.args]
            return None if None in found else frozenset().union(*(each or () for each in found))
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return frozenset()
        case _:
            (selector,) = selectors(query)
            labels = known.labels.get(selector.name or "")
            return None if labels is None else labels | TARGET_LABELS


def _of_aggregate(query: promql_parser.AggregateExpr, known: Known) -> frozenset[str] | None:
    if query.modifier is None:
        return frozenset()
    named = frozenset(query.modifier.labels)
    if query.modifier.type == promql_parser.AggModifierType.By:
        return named
    inner = labels_of(query.expr, known)
    return None if inner is None else inner - named


def _of_both(query: promql_parser.BinaryExpr, known: Known) -> frozenset[str] | None:
    left, right = labels_of(query.lhs, known), labels_of(query.rhs, known)
    if left is None or right is None:
        return None
    operator = str(query.op)
    if operator == "or":
        return left | right
    if operator in _SET_OPERATORS or isinstance(query.rhs, promql_parser.NumberLiteral):
        return left
    if isinstance(query.lhs, promql_parser.NumberLiteral):
        return right
    return left & right if query.modifier is None or query.modifier.matching is None else left


def _queries(board: Mapping[str, Any]) -> Iterator[tuple[str, str, promql_parser.Expr]]:
    """Yield title, legend and query of each target; `Known.problems` tells what is no PromQL."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            with contextlib.suppress(ValueError):
                query = promql_parser.parse(filled_in(target["expr"]))
                yield panel["title"], target["legendFormat"], query


def _cells(place: Mapping[str, int]) -> Iterator[_Cell]:
    for y in range(place["y"], place["y"] + place["h"]):
        for x in range(place["x"], place["x"] + place["w"]):
            yield x, y


def problems(boards: Mapping[str, Mapping[str, Any]], known: Known) -> Iterator[str]:
    """Yield everything that is wrong with some dashboards."""
    of_gateways = metrics_of_gateways()
    for name, board in boards.items():
        yield from gateway_problems(name, board, known, of_gateways)
        yield from layout_problems(name, board)
        yield from legend_problems(name, board, known)
        yield from range_problems(name, board)


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    found = list(problems(dashboards(), known_metrics()))
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if not found:
        sys.stdout.write("panels, titles and legends are sound\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
