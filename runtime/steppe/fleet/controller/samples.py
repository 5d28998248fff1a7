"""Metrics with a sample for each replica, in Prometheus's text format.

`prometheus_client` checks and sorts the labels of each sample whenever it writes it, some 30 us of
work: a third of a second each tick of a thousand replicas. Here the text of the labels is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from prometheus_client.utils import floatToGoString

_number: Callable[[float], str] = floatToGoString
Labels = tuple[str, ...]
"""The values of the labels of a sample, in the order of their names."""


class Samples:
    """The lines of one metric.

    Attributes:
        name: Its name, with the ending of its type.
    """

    __slots__ = ("_beginnings", "_head", "_names", "name")

    def __init__(
        self, name: str, text: str, kind: Literal["gauge", "counter"], *labels: str
    ) -> None:
        """Begin without a sample.

        Args:
            name: Its name, with the ending of its type.
            text: What it is, without a backslash and in one line.
            kind: Its type.
            labels: Names of its labels, in the order of the alphabet.
        """
        assert list(labels) == sorted(labels), "as prometheus_client writes them"
        self.name, self._names = name, labels
        self._head = f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        self._beginnings: dict[Labels, str] = {}

    def text(self, samples: Iterable[tuple[Labels, float]]) -> str:
        """Return the metric with these samples."""
        beginning, number = self._beginning, _number
        lines = [f"{beginning(labels)}{number(value)}\n" for labels, value in samples]
        return self._head + "".join(lines)

    def _beginning(self, values: Labels) -> str:
        known = self._beginnings.get(values)
        if known is None:
            pairs = zip(self._names, map(_escaped, values), strict=True)
            inner = ",".join(f'{name}="{value}"' for name, value in pairs)
            known = self._beginnings[values] = f"{self.name}{{{inner}}} "
        return known


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
