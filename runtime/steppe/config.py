"""Run configuration: one YAML file is one run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from steppe.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the file: frozen, and no key that it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class ModelSection(Section):
    """Which language model to serve."""

    name: str
    """A known name (`steppe model list`), a local folder, or a Hugging Face id."""
    served_name: str | None = None
    """The name clients ask for; the model's own name when absent."""
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    """Longest prompt + output, tokens; the model's own limit when absent."""


class EngineSection(Section):
    """What one replica runs."""

    kind: Literal["vllm", "synthetic"] = "vllm"
    max_batch_limit: Annotated[int, Field(ge=1)] = 64
    """Largest batch limit the controller may set (vLLM's `max_num_seqs`)."""
    max_tokens_per_step: Annotated[int, Field(ge=16)] = 2048
    """Most tokens scheduled in one step (vLLM's `max_num_batched_tokens`)."""
    kv_cache_bytes: Annotated[int, Field(ge=1 << 20)] | None = None
    """Size of the KV cache, bytes; vLLM's own choice when absent (GPU only)."""
    args: dict[str, Any] = {}
    """Further vLLM engine arguments, passed on as they are."""


class PaceSection(Section):
    """How long a step of the emulated GPU takes at its full clock; never measured.

    A step with `n` decoding sequences and `p` prompt tokens takes at least
    `weights_s + (decode_s n + prefill_s p) / (clock / full clock)`.
    """

    weights_s: NonNegative = 0.03
    """Streaming the weights from memory once, s; does not depend on the SM clock."""
    decode_s: NonNegative = 0.002
    """Computing one decoding sequence, s at the full clock."""
    prefill_s: NonNegative = 0.001
    """Computing one prompt token, s at the full clock."""


class NvmlSection(Section):
    """Real NVIDIA GPUs."""

    kind: Literal["nvml"]


class EmulatedSection(Section):
    """GPUs that an emulated libnvidia-ml answers for."""

    kind: Literal["emulated"]
    profile: Literal["l4", "a100", "h100", "h200", "b200", "v100"] = "l4"
    count: Annotated[int, Field(ge=1, le=16)] = 2
    """GPUs on each node."""
    pace: PaceSection = PaceSection()


class ConstantSupply(Section):
    """The same watts for ever."""

    kind: Literal["constant"]
    watts: NonNegative


class TraceSupply(Section):
    """Watts from a CSV or Parquet file (`.csv`, `.csv.gz`, `.parquet`)."""

    kind: Literal["trace"]
    path: Path
    time_column: str = "time_utc"
    power_column: str = "p_kw"
    watts_per_unit: Positive = 1000.0
    """Watts in one unit of the power column."""
    rated_w: Positive | None = None
    """Scale the trace so that its largest value is this, W."""


class WindSupply(Section):
    """A wind turbine in the measured weather of one of pvlib's stations."""

    kind: Literal["wind"]
    rated_w: Positive
    station: Literal["greensboro", "sand_point"] = "sand_point"


class SolarSupply(Section):
    """A fixed photovoltaic plant in the measured weather of one of pvlib's stations."""

    kind: Literal["solar"]
    rated_w: Positive
    station: Literal["greensboro", "sand_point"] = "greensboro"


class SignalSupply(Section):
    """A file that another program rewrites: one number, watts; stale when not rewritten."""

    kind: Literal["signal"]
    path: Path


SupplySection = Annotated[
    ConstantSupply | TraceSupply | WindSupply | SolarSupply | SignalSupply,
    Field(discriminator="kind"),
]


class BatterySection(Section):
    """A battery between supply and site."""

    capacity_wh: Positive
    max_charge_w: NonNegative
    max_discharge_w: NonNegative
    charge_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.95
    discharge_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.95
    initial_share: Share = 0.5
    """Charge at the start, share of the capacity."""


class PowerSection(Section):
    """How many watts may be drawn, at the site boundary."""

    supply: Annotated[tuple[SupplySection, ...], Field(min_length=1)]
    """Sources; their watts add up."""
    battery: BatterySection | None = None
    reserve_w: NonNegative = 0.0
    """Kept back from the supply at all times, W."""
    start: datetime | None = None
    """Trace time at which the run begins, ISO 8601; the trace's own start when absent. Weather
    stations ignore year and zone: the time is their local standard time."""
    speedup: Positive = 1.0
    """Seconds of trace per second of run."""
    stale_s: Positive = 60.0
    """A live signal older than this is not believed, s of run time."""
    fallback_w: NonNegative = 0.0
    """Budget while the signal is stale or missing, W."""


class SiteSection(Section):
    """What the site needs beside the GPUs: site watts = GPU watts x pue + overhead_w."""

    pue: Annotated[float, Field(ge=1)] = 1.0
    overhead_w: NonNegative = 0.0


class SweepSection(Section):
    """Measure the frontier at start-up, on the replicas themselves."""

    clocks: Annotated[int, Field(ge=2)] = 5
    """How many clock limits, spread over what the GPU allows."""
    lowest_clock_share: Share = 0.5
    """Lowest clock limit to try, share of the highest. Below its knee, near a half, a GPU's
    voltage falls no further: slower clocks then cost more joules per token, not fewer."""
    batch_limits: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Batch limits to try; powers of two up to the largest when absent."""
    window_s: Positive = 2.0
    """Length of one measured window, s."""
    prompt_tokens: Annotated[int, Field(ge=1)] = 128
    output_tokens: Annotated[int, Field(ge=1)] = 64


class FrontierSection(Section):
    """Where the operating points come from: a file that `steppe` wrote, or a sweep."""

    file: Path | None = None
    sweep: SweepSection | None = None

    @model_validator(mode="after")
    def _one_source(self) -> FrontierSection:
        if (self.file is None) == (self.sweep is None):
            raise ValueError("give exactly one of file and sweep")
        return self


class FleetSection(Section):
    """How many replicas, and how large."""

    replicas: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    """Replicas of the model; `all`: as many as the GPUs of the cluster hold."""
    gpus_per_replica: Annotated[int, Field(ge=1)] = 1


class ControlSection(Section):
    """The control loop."""

    period_s: Positive = 1.0
    """Time between two ticks, s."""
    guard_share: Share = 0.02
    """Least share of the budget left unused, against the plan's own error."""
    ramp_up_share: Positive = 0.25
    """Most the planned draw may rise in a second, share of the fleet's full draw."""
    dwell_s: NonNegative = 5.0
    """Least time between two sleeps or wakes of the fleet, s; never delays a needed sleep."""
    drain_s: NonNegative = 8.0
    """How long a draining replica may finish its requests before it is frozen, s."""


class GatewaySection(Section):
    """The HTTP door."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    max_waiting: Annotated[int, Field(ge=0)] = 1000
    """Requests that may wait for a replica; the next one gets a 503."""
    max_wait_s: Positive = 300.0
    """How long a request may wait for a replica, s; then it gets a 503."""


class SloSection(Section):
    """What a good request is."""

    ttft_s: Positive = 2.0
    tpot_s: Positive = 0.2


class RaySection(Section):
    """Which Ray cluster to use."""

    address: str = "local"
    """`local` starts one for this run; `auto` or an address joins a running one."""


class LoadSection(Section):
    """The load that `steppe demo` puts on the fleet."""

    trace: str = "synthetic"
    """`synthetic`, or the path of a trace in the Azure CSV format."""
    length_scale: Positive = 1.0
    """Factor on the trace's prompt and output lengths."""
    utilisation: Positive = 0.8
    """Offered output tokens/s, share of what the fleet serves at full power."""
    seed: int = 0


class RunConfig(Section):
    """One run: one file under `configs/`."""

    model: ModelSection
    engine: EngineSection = EngineSection()
    fleet: FleetSection = FleetSection()
    device: Annotated[NvmlSection | EmulatedSection, Field(discriminator="kind")]
    power: PowerSection
    site: SiteSection = SiteSection()
    frontier: FrontierSection
    control: ControlSection = ControlSection()
    gateway: GatewaySection = GatewaySection()
    slo: SloSection = SloSection()
    ray: RaySection = RaySection()
    load: LoadSection = LoadSection()


def load_config(path: Path) -> RunConfig:
    """Read a run configuration; relative paths inside it are relative to its folder.

    Raises:
        ConfigError: The file is missing or malformed, has an unknown key, or a value is
            out of range. The message is one line and names the key.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: asked for a mapping, found {type(values).__name__}")
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from error
    return _resolve_paths(config, path.parent)


def _first_problem(error: ValidationError) -> str:
    """Return the first of the problems, with its key and what was found."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if first["type"] == "missing":
        return f"{key}: missing"
    found = first["input"]
    shown = "" if isinstance(found, dict) else f", found {found!r}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}{shown}"


def _resolve_paths(config: RunConfig, folder: Path) -> RunConfig:
    sources = tuple(
        source.model_copy(update={"path": folder / source.path})
        if isinstance(source, TraceSupply | SignalSupply)
        else source
        for source in config.power.supply
    )
    power = config.power.model_copy(update={"supply": sources})
    updates: dict[str, Any] = {"power": power}
    if config.frontier.file is not None:
        file = folder / config.frontier.file
        updates["frontier"] = config.frontier.model_copy(update={"file": file})
    return config.model_copy(update=updates)
