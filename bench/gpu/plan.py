"""How long and how large a GPU session is."""

from __future__ import annotations

from dataclasses import dataclass, field

LLAMA_1B = {
    "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how large everything is.

    Attributes:
        idle_s: Each idle window, s.
        ticks_s: How long the counter's ticks are watched, s.
        probe_s: Each probe's window, s; half of it again before, to warm up.
        batch_s: Window of each batch limit, s; half of it again before.
        batches: Batch limits.
        prompt_tokens: Prompt of each request.
        output_tokens: Output of each request.
        intensities: FLOP/byte of the matrix products.
        copy_bytes: Bytes of the copy.
        width: Width of the matrices.
        spin_steps: Steps of a launch of the spin.
        model: Overrides of the model's configuration.
    """

    idle_s: float = 20.0
    ticks_s: float = 10.0
    probe_s: float = 8.0
    batch_s: float = 16.0
    batches: tuple[int, ...] = (1, 8, 32, 64, 128, 256)
    prompt_tokens: int = 128
    output_tokens: int = 128
    intensities: tuple[float, ...] = (8.0, 64.0, 256.0, 1500.0)
    copy_bytes: int = 1 << 30
    width: int = 8192
    spin_steps: int = 1 << 16
    model: dict[str, int] = field(default_factory=dict)


FULL = Plan()
TINY = Plan(
    idle_s=0.3, ticks_s=1.0, probe_s=0.2, batch_s=0.5, batches=(1, 4), prompt_tokens=8,
    output_tokens=8, intensities=(4.0,), copy_bytes=1 << 16, width=64, spin_steps=8,
    model={"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
           "num_attention_heads": 4, "num_key_value_heads": 2},
)  # fmt: skip
