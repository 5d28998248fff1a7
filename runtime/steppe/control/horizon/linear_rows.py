"""Rows of a linear program, written a whole family of constraints at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Term = tuple[Indices, Floats | float]
"""Columns, one for each row of a family, and their coefficients."""


class Rows:
    """Collects rows `sum of coefficient x column <= right` (or `=`), and makes the matrix.

    Args:
        columns: How many columns the program has.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._where: list[tuple[Indices, Indices, Floats]] = []
        self._right: list[Floats] = []
        self._count = 0

    def add(self, terms: Sequence[Term], right: Floats | float) -> None:
        """Add one row for each element of the terms' columns.

        Args:
            terms: What is summed; all of the same length.
            right: The right side of every row, or of each.
        """
        length = len(terms[0][0])
        numbers = self._count + np.arange(length)
        for columns, coefficients in terms:
            self._where.append((numbers, columns, np.broadcast_to(coefficients, length)))
        self._right.append(np.broadcast_to(right, length))
        self._count += length

    @property
    def matrix(self) -> csr_array:
        """The left sides."""
        rows, columns, coefficients = (
            np.concatenate(part) for part in zip(*self._where, strict=True)
        )
        return csr_array((coefficients, (rows, columns)), shape=(self._count, self._columns))

    @property
    def right(self) -> Floats:
        """The right sides."""
        return np.concatenate(self._right)
