"""The operating points of a sweep."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from steppe.measure.sweep.length_sample import LengthSample
from steppe.measure.sweep.result import Phase, Setting

DECODE_PROMPT_TOKENS = 1
DECODE_OUTPUT_FACTOR = 4
LEAST_DECODE_TOKENS = 128


@dataclass(frozen=True, slots=True)
class SweepGrid:
    """The points of a sweep.

    Attributes:
        clocks_mhz: Clock limits, MHz; empty where the clock cannot be set.
        batch_limits: Batch limits.
        lengths: Mean prompt and output lengths, tokens; one pair or more.
        apart: Also measure prefill alone and decode alone, so that the costs of a step follow:
            both at the largest batch limit, prefill also at the smallest.
        apart_clocks_mhz: Clock limits at which they are measured, MHz; all if None.
        sample: Lengths of a user's own requests, with their mean in `lengths`; None for lengths
            around the means.
        longest_tokens: Longest prompt and output together that the model takes, tokens.
    """

    clocks_mhz: tuple[int, ...]
    batch_limits: tuple[int, ...]
    lengths: tuple[tuple[int, int], ...]
    apart: bool = True
    longest_tokens: int = 2048
    apart_clocks_mhz: tuple[int, ...] | None = None
    sample: LengthSample | None = None

    @property
    def settings(self) -> list[Setting]:
        """Every point, the fastest first, so that the GPU only cools and settles soon."""
        clocks = sorted(self.clocks_mhz, reverse=True) or [0]
        batches = sorted(self.batch_limits, reverse=True)
        settings = [
            Setting(Phase.MIXED, clock, batch, prompt, output, self._digest)
            for prompt, output in self.lengths
            for clock in clocks
            for batch in batches
        ]
        return [*settings, *self._apart(batches)] if self.apart else settings

    def _apart(self, batches: Sequence[int]) -> list[Setting]:
        clocks = self.clocks_mhz if self.apart_clocks_mhz is None else self.apart_clocks_mhz
        clocks_mhz = sorted(clocks, reverse=True) or [0]
        prompt, output = self.lengths[0]
        ends = dict.fromkeys((batches[0], batches[-1]))
        long = self._decode_tokens(output)
        return [
            *(
                Setting(Phase.PREFILL, c, b, prompt, 1, self._digest)
                for c in clocks_mhz
                for b in ends
            ),
            *(Setting(Phase.DECODE, c, batches[0], DECODE_PROMPT_TOKENS, long) for c in clocks_mhz),
        ]

    @property
    def _digest(self) -> str:
        return self.sample.digest if self.sample else ""

    def _decode_tokens(self, output_tokens: int) -> int:
        wanted = max(LEAST_DECODE_TOKENS, DECODE_OUTPUT_FACTOR * output_tokens)
        return max(1, min(wanted, self.longest_tokens // 4))


def left_to_do(settings: Sequence[Setting], done: Collection[str]) -> list[Setting]:
    """Return the settings that are not measured yet, in their order.

    Args:
        settings: All points.
        done: Keys of those that are measured.
    """
    return [setting for setting in settings if setting.key not in done]


def spread_clocks(
    clocks_mhz: Sequence[int], count: int, lowest_share: float = 0.0
) -> tuple[int, ...]:
    """Return `count` of the supported clocks, evenly spread, the lowest and highest included.

    Args:
        clocks_mhz: Clocks that the GPU supports, rising, MHz.
        count: How many to return.
        lowest_share: Leave out clocks below this share of the highest.
    """
    least_mhz = lowest_share * max(clocks_mhz, default=0)
    clocks_mhz = [clock for clock in clocks_mhz if clock >= least_mhz]
    if len(clocks_mhz) <= count:
        return tuple(clocks_mhz)
    last = len(clocks_mhz) - 1
    return tuple(clocks_mhz[round(i * last / (count - 1))] for i in range(count))


def powers_of_two(largest: int) -> tuple[int, ...]:
    """Return 1, 2, 4 ... up to `largest`, which is included."""
    powers = []
    power = 1
    while power < largest:
        powers.append(power)
        power *= 2
    return (*powers, largest)
