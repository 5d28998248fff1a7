"""Lengths of a user's own requests, to sweep with in place of lengths around fixed means."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steppe.load.arrivals import Arrival
from steppe.load.traces import read_trace
from steppe.roofline.lengths import RequestLengths

SAMPLE = 1000
"""Most requests of a sample: the mean of so many is within 5 % for a spread of 1.5 times the
mean."""
BLOCK = 8
"""Every so many requests of a sample in a row have one from each equal part of its lengths, so that
the mix hardly differs between two windows."""


@dataclass(frozen=True)
class LengthSample:
    """Prompt and output lengths of requests.

    Attributes:
        source: The file that they come from.
        requests: Requests in it.
        shortened: Those of the sample that were longer than the model takes.
        pairs: Prompt and output of each, tokens, in the order in which they are sent.
    """

    source: str
    requests: int
    shortened: int
    pairs: tuple[tuple[int, int], ...]

    @cached_property
    def digest(self) -> str:
        """A name for the lengths: equal lengths have equal names."""
        return f"{zlib.crc32(repr(self.pairs).encode()):08x}"

    @property
    def lengths(self) -> RequestLengths:
        """The mean request."""
        prompts, outputs = zip(*self.pairs, strict=True)
        count = len(self.pairs)
        return RequestLengths(sum(prompts) / count, sum(outputs) / count)

    @property
    def rounded(self) -> tuple[int, int]:
        """The mean prompt and output, whole tokens."""
        lengths = self.lengths
        return max(1, round(lengths.prompt_tokens)), max(1, round(lengths.output_tokens))

    @property
    def summary(self) -> str:
        """The sample in one line, for people."""
        lengths, cut = self.lengths, ""
        if self.shortened:
            cut = f"; {self.shortened} shortened to what the model takes"
        return (
            f"{self.source}: {len(self.pairs):,} of {self.requests:,} requests, mean "
            f"{lengths.prompt_tokens:,.0f} tokens in and {lengths.output_tokens:,.0f} out{cut}"
        )

    def arrivals(self, output_tokens: int | None = None) -> tuple[Arrival, ...]:
        """Return the requests; all with the same output, tokens, if one is given."""
        return tuple(
            Arrival(0.0, prompt, output if output_tokens is None else output_tokens)
            for prompt, output in self.pairs
        )


def sample_of_trace(path: Path, seed: int, longest_tokens: int | None) -> LengthSample:
    """Draw a sample of the requests of a trace; prefix hits are not drawn, prompts count whole.

    Args:
        path: A file that `read_trace` reads.
        seed: The same seed gives the same sample.
        longest_tokens: Longest prompt and output together that the model takes, tokens; None if
            unknown. Longer requests are shortened in proportion.

    Raises:
        TraceError: The file cannot be read.
    """
    arrivals = read_trace(path)
    rng = np.random.default_rng(seed)
    count = min(SAMPLE, len(arrivals))
    chosen = rng.choice(len(arrivals), size=count, replace=False).tolist()
    pairs = [(arrivals[i].prompt_tokens, arrivals[i].output_tokens) for i in chosen]
    kept = [_shortened(pair, longest_tokens) for pair in pairs]
    shortened = sum(old != new for old, new in zip(pairs, kept, strict=True))
    return LengthSample(str(path), len(arrivals), shortened, tuple(_mixed(kept, rng)))


def _shortened(pair: tuple[int, int], longest_tokens: int | None) -> tuple[int, int]:
    prompt, output = pair
    if longest_tokens is None or prompt + output <= longest_tokens:
        return pair
    kept = longest_tokens / (prompt + output)
    return max(1, math.floor(prompt * kept)), max(1, math.floor(output * kept))


def _mixed(pairs: Sequence[tuple[int, int]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return the pairs in an order in which every block has one of each part of their lengths."""
    by_length = sorted(pairs, key=sum)
    parts = [_shuffled(part, rng) for part in np.array_split(np.arange(len(pairs)), BLOCK)]
    order: list[int] = []
    for row in range(max(map(len, parts))):
        block = np.array([part[row] for part in parts if row < len(part)])
        order += _shuffled(block, rng).tolist()
    return [by_length[place] for place in order]


def _shuffled(places: NDArray[np.int_], rng: np.random.Generator) -> NDArray[np.int_]:
    return rng.permutation(places)
