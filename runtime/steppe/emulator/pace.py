"""How long a step takes on an emulated GPU; modelled, never measured.

    memory  = weights_s + context_s C
    compute = (decode_s D + prefill_s P) / speed
    step    = launch_s + (memory^q + compute^q)^(1/q)        q = overlap

with D decoding sequences, C tokens of their context, P prompt tokens, and `speed` the SM clock over
the highest. Memory has a clock of its own, so streaming and launching do not slow down with the SM
clock. With an overlap of 1 streaming and computing follow each other; the higher it is, the more
of the shorter one hides behind the longer one, as in the roofline model (Williams et al. 2009).
A step that is bound by memory then hardly depends on the clock at all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepShares:
    """A step at one clock.

    Attributes:
        duration_s: How long it takes, s.
        core: Share of this time in which the cores compute, 0 to 1.
        mem: Share of it in which the memory streams, 0 to 1.
    """

    duration_s: float
    core: float
    mem: float


@dataclass(frozen=True, slots=True)
class StepParts:
    """The parts of a step at the highest clock.

    Attributes:
        memory_s: Streaming weights and context, s.
        compute_s: Computing, s.
        launch_s: Launching kernels, s; neither cores nor memory are busy then.
        overlap: The exponent `q`, at least 1.
    """

    memory_s: float
    compute_s: float
    launch_s: float = 0.0
    overlap: float = 1.0

    def at(self, speed: float) -> StepShares:
        """Return the step at a clock.

        Args:
            speed: SM clock over the highest.
        """
        core_s = self.compute_s / speed
        duration_s = self.launch_s + self._overlapped_s(core_s)
        if duration_s <= 0:
            return StepShares(0.0, 0.0, 0.0)
        shares = (min(1.0, part_s / duration_s) for part_s in (core_s, self.memory_s))
        return StepShares(duration_s, *shares)

    def _overlapped_s(self, core_s: float) -> float:
        """Return the time of streaming and computing, s; by their ratio, lest powers underflow."""
        longer, shorter = max(self.memory_s, core_s), min(self.memory_s, core_s)
        if self.overlap == 1 or not shorter:
            return longer + shorter
        ratio: float = (shorter / longer) ** self.overlap
        return float(longer * (1 + ratio) ** (1 / self.overlap))


@dataclass(frozen=True, slots=True)
class Pace:
    """The constants of a step's time.

    Attributes:
        weights_s: Streaming the weights from memory once, s.
        decode_s: Computing one decoding sequence at the full clock, s.
        prefill_s: Computing one prompt token at the full clock, s.
        context_s: Streaming keys and values of one token of context, s.
        launch_s: Launching a step, s.
        overlap: The exponent of the overlap of streaming and computing, at least 1.
    """

    weights_s: float
    decode_s: float
    prefill_s: float
    context_s: float = 0.0
    launch_s: float = 0.0
    overlap: float = 1.0

    def parts(
        self, prefill_tokens: int, decode_sequences: int, context_tokens: int = 0
    ) -> StepParts:
        """Return the parts of a step.

        Args:
            prefill_tokens: Prompt tokens that it computes.
            decode_sequences: Sequences that it decodes one token of.
            context_tokens: Tokens that these attend to, summed over them.
        """
        return StepParts(
            memory_s=self.weights_s + self.context_s * context_tokens,
            compute_s=self.decode_s * decode_sequences + self.prefill_s * prefill_tokens,
            launch_s=self.launch_s,
            overlap=self.overlap,
        )
