"""Peak rates from NVIDIA's data sheets, to compare probes with.

Dense rates (half of those given "with sparsity"), from the data sheets of A100
80GB (June 2021), H100 (2023), H200, L4 and of the Blackwell architecture's technical brief (B200,
HGX).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataSheet:
    """Peak rates of one GPU.

    Attributes:
        bytes_per_s: Memory bandwidth, bytes/s.
        bf16_flop_per_s: Dense bfloat16 rate, FLOP/s.
        fp8_flop_per_s: Dense fp8 rate, FLOP/s; None where the GPU has none.
    """

    bytes_per_s: float
    bf16_flop_per_s: float
    fp8_flop_per_s: float | None

    def flop_per_s(self, bits: int) -> float | None:
        """Return the dense rate for operands of 16 or 8 bits; None where the GPU has none."""
        return self.fp8_flop_per_s if bits == 8 else self.bf16_flop_per_s


# The first entry whose words are all in the card's name (in capitals) counts, so specific names
# come first.
_SHEETS: tuple[tuple[tuple[str, ...], DataSheet], ...] = (
    (("H100", "NVL"), DataSheet(3.9e12, 835e12, 1671e12)),
    (("H100", "PCIE"), DataSheet(2.0e12, 756e12, 1513e12)),
    (("H100",), DataSheet(3.35e12, 989e12, 1979e12)),
    (("H200", "NVL"), DataSheet(4.8e12, 835e12, 1671e12)),
    (("H200",), DataSheet(4.8e12, 989e12, 1979e12)),
    (("B200",), DataSheet(8.0e12, 2250e12, 4500e12)),
    (("A100", "PCIE", "80GB"), DataSheet(1.935e12, 312e12, None)),
    (("A100", "80GB"), DataSheet(2.039e12, 312e12, None)),
    (("A100",), DataSheet(1.555e12, 312e12, None)),
    (("L4",), DataSheet(300e9, 121e12, 242.5e12)),
)


def data_sheet(card: str) -> DataSheet | None:
    """Return the data sheet of a card by its NVML name; None if it is unknown."""
    words = set(card.upper().replace("-", " ").split())
    return next((sheet for name, sheet in _SHEETS if words.issuperset(name)), None)
