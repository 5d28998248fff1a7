"""The hardware of one replica: its GPU, how several GPUs share a model, and their host."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU; its file says where each number comes from.

    `configs/gpus/` has some; `steppe bench probe --out` writes one for the GPU at hand, with the
    energies that it measured. Without these, the fitted coefficients are used.

    Attributes:
        name: Its common name.
        memory_bytes: Its memory, bytes.
        bandwidth_bps: Memory bandwidth, bytes/s.
        half_flops: Dense 16-bit rate, FLOP/s.
        fp8_flops: Dense fp8 rate, FLOP/s; the 16-bit rate where it has none.
        link_bps: Bandwidth to the other GPUs of its node, one direction, bytes/s; 0 without.
        power_limit_w: Board power limit, W.
        bare_w: Draw without a CUDA context, W.
        context_w: More with a context, no work and the clock at its highest, W.
        lowest_mhz: Lowest SM clock, MHz.
        highest_mhz: Highest SM clock, MHz.
        step_mhz: Distance of two clocks, MHz.
        coefficients: Name of its set of fitted coefficients.
        clock_curve: Name of its clock curve; that of its coefficients if None.
        joules_per_byte: Measured energy of a byte between memory and chip, J.
        joules_per_flop: Measured energy of a 16-bit FLOP at the highest clock, J.
        static_w: Measured draw of a busy GPU that moves and computes nothing, at the highest
            clock, W.
    """

    name: str
    memory_bytes: float
    bandwidth_bps: float
    half_flops: float
    fp8_flops: float
    link_bps: float
    power_limit_w: float
    bare_w: float
    context_w: float
    lowest_mhz: int
    highest_mhz: int
    step_mhz: float
    coefficients: str
    clock_curve: str | None = None
    joules_per_byte: float | None = None
    joules_per_flop: float | None = None
    static_w: float | None = None

    @property
    def has_fp8(self) -> bool:
        """Whether it multiplies in fp8; else an engine widens fp8 weights to 16 bit first."""
        return self.fp8_flops > self.half_flops


@dataclass(frozen=True, slots=True)
class ClockCurve:
    """How time and draw follow the SM clock, as shares of those at the highest clock.

    `bench/clock_fit.py` fits one for each generation to public measurements, which
    `bench/clock_sweeps.py` names. Below 0.39 (H100), 0.51 (B200) and 0.69 (V100) of the highest
    clock there are none: a V100 at 0.3 works only half as fast as its curve says.

    Attributes:
        voltage_floor: Voltage at low clocks, share of that at the highest.
        voltage_knee: Share of the highest clock below which the voltage stays at its floor.
        memory_knee: Share of the highest clock about which streaming begins to slow down.
        per_error: Change of the three numbers for one standard error; see `shifted`.
    """

    voltage_floor: float
    voltage_knee: float
    memory_knee: float
    per_error: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def shifted(self, standard_errors: float) -> ClockCurve:
        """Return the curve so many standard errors higher, or lower if negative.

        One higher: the voltage at 0.6 of the highest clock is one standard error higher, its
        floor and knee change as the fit couples them, and memory slows down one standard error
        sooner. Both make low clocks worse. They are shifted together, so the interval is rather
        too wide than too narrow.
        """
        floor, knee, memory = (standard_errors * change for change in self.per_error)
        return replace(
            self,
            voltage_floor=min(max(self.voltage_floor + floor, _LEAST), 1.0),
            voltage_knee=min(max(self.voltage_knee + knee, 0.0), 1.0 - _LEAST),
            memory_knee=max(self.memory_knee + memory, _LEAST),
        )

    def voltage(self, clock: float) -> float:
        """Return the voltage at a clock; both are shares of the highest."""
        above = clock - self.voltage_knee
        above = 0.5 * (above + abs(above)) / (1.0 - self.voltage_knee)
        return self.voltage_floor + (1.0 - self.voltage_floor) * above * above

    def streaming(self, clock: float) -> float:
        """Return how much longer memory takes at a clock, a share of the highest."""
        knee = self.memory_knee**4
        slower: float = ((1.0 + knee / clock**4) / (1.0 + knee)) ** 0.25
        return slower


@dataclass(frozen=True, slots=True)
class Sharding:
    """How one replica's GPUs share the model.

    Dense weights are split by tensor parallelism and experts spread over the GPUs (expert
    parallelism), as in the fitted measurements; or attention runs data-parallel (vLLM's
    `--data-parallel-size` with `--enable-expert-parallel`): each GPU is a rank with all dense
    weights and sequences of its own, and the ranks step together because they share the experts.

    Attributes:
        gpus: GPUs of the replica.
        split: 1 with several GPUs, else 0.
        dense_split: Number of parts of the dense weights.
        kv_split: Number of parts of the keys and values.
        ranks: Data-parallel ranks; 1 without.
        spread: Expected maximum of as many standard normal variables as there are GPUs: the
            fullest GPU of a step streams that many deviations more experts than the mean.
    """

    gpus: int
    split: int
    dense_split: int
    kv_split: int
    ranks: int
    spread: float

    @classmethod
    def over(cls, gpus: int, kv_heads: int, *, data_parallel: bool = False) -> Sharding:
        """Return the sharding of a model with this number of key/value heads."""
        split, spread = int(gpus > 1), _SPREAD.get(gpus, _SPREAD[8])
        if data_parallel:
            return cls(gpus, split, 1, gpus, gpus, spread)
        return cls(gpus, split, gpus, min(gpus, kv_heads), 1, spread)


_LEAST = 0.01
"""Least voltage, and least distance of a knee from its limit, shares."""
_SPREAD = {1: 0.0, 2: 0.564, 3: 0.846, 4: 1.029, 5: 1.163, 6: 1.267, 7: 1.352, 8: 1.424}
"""Expected maximum of n standard normal variables (Tippett 1925)."""


@dataclass(frozen=True, slots=True)
class Host:
    """Other load on the host of an engine.

    A step waits for the CPU when other engines load it. The largest load is streaming long answers
    through a reasoning parser: for each token, vLLM concatenates the text and the token ids of the
    whole answer so far and parses them
    (`vllm/entrypoints/openai/serving_chat.py`: `current_token_ids = previous_token_ids + ...`).
    It does not without a parser, nor for harmony (gpt-oss), which is parsed token by token
    (`and not self.use_harmony`). That this is the cause is inferred, not measured: ML.ENERGY's runs
    on B200 are slow where such neighbours are many.

    Attributes:
        neighbours: Other engines on the host, with the same kind of requests.
        parsed_tokens: Mean answer that a parser reads again for each token of it, tokens; 0
            without such a parser.
    """

    neighbours: int
    parsed_tokens: float

    @property
    def crowding(self) -> float:
        """Tokens of an answer that the neighbours' parsers read again, summed over neighbours."""
        return self.neighbours * self.parsed_tokens


ALONE = Host(0, 0.0)
"""No other engine on the host."""
