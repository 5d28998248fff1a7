"""The model, its engine, and the fleet that serves it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from steppe.config.device import PaceSection
from steppe.config.load import LoadSection
from steppe.config.section import Count, FilePath, NonNegative, Positive, Section, Share
from steppe.config.vllm_args import owned_argument


class ModelSection(Section):
    """The language model to serve."""

    name: str
    """A known name (`steppe model list`), a local folder (relative to this file), or a Hugging Face
    id."""
    served_name: str | None = None
    """Name under which clients request the model; the last part of `name` if absent."""
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    """Longest prompt and output together, tokens; the model's own limit if absent."""
    weight: Positive = 1.0
    """Worth of an output token of this model, relative to those of the other `models`. Where watts
    are short, they go to the tokens that are worth most for each watt."""

    @property
    def client_name(self) -> str:
        """Name under which clients request the model."""
        return self.served_name or Path(self.name).name


class EngineSection(Section):
    """The engine of one replica."""

    kind: Literal["vllm", "transformers", "synthetic"] = "vllm"
    """`vllm`; `transformers`: Hugging Face transformers on one GPU; `synthetic`: no model, tokens
    at the pace of the emulated GPU."""
    max_batch_limit: Count = 64
    """Largest batch limit that the controller may set, sequences (vLLM's `max_num_seqs`)."""
    max_tokens_per_step: Annotated[int, Field(ge=16)] = 2048
    """Most tokens scheduled in one step (vLLM's `max_num_batched_tokens`)."""
    kv_cache_bytes: Annotated[int, Field(ge=1 << 20)] | None = None
    """Size of the KV cache on each GPU, bytes. If absent: vLLM's own choice (GPU only); with
    transformers, 16384 tokens. `steppe simulate` uses it on modelled GPUs only: see
    `sim.kv_tokens`."""
    kv_host_bytes: Annotated[int, Field(ge=1 << 20)] | None = None
    """Host memory of one replica for keys and values of earlier prompts, bytes, all of its GPUs
    together (vLLM's `kv_offloading_size`, on GPUs only). It gets a copy of each block, so that a
    later prompt with the same beginning loads it instead of computing it again. It survives a
    pause, not a deeper sleep. If absent: none."""
    stall_s: Annotated[float, Field(ge=5, le=3600)] = 60.0
    """An engine that has work and makes no step for so long, or is stopped for so long, counts as
    dead and is started again, s. It must be longer than the longest step: one with
    `max_tokens_per_step` prompt tokens takes below a second on a GPU, but half a minute for a model
    of a few billion parameters on a few CPU cores. A replica that sleeps, or whose limits have
    lapsed (`control.deadman_s`), does not count. New requests go to other replicas within 2 s."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of vLLM's engine and of its OpenAI server, passed through unchanged;
    `steppe simulate` ignores them. Those that Steppe sets itself are refused, with the key to use.
    Adapters (`lora_modules`) and a draft model (`speculative_config`) may be folders or Hugging
    Face ids; `trust_remote_code` runs the code that a model brings along. Tool calls need
    `enable_auto_tool_choice: true` and a `tool_call_parser`, such as `hermes`; `reasoning_parser`,
    such as `qwen3`, separates reasoning from content. `tool_parser_plugin`,
    `reasoning_parser_plugin` and `chat_template` work too.
    Example: `configs/tool_calls.yaml`."""

    @model_validator(mode="after")
    def _args_need_vllm(self) -> EngineSection:
        if self.kv_host_bytes is not None and self.kind != "vllm":
            raise ValueError(f"kv_host_bytes is a part of vLLM, and kind is {self.kind}")
        if self.args and self.kind != "vllm":
            raise ValueError(f"args are passed on to vLLM, and kind is {self.kind}")
        if owned := owned_argument(self.args):
            name, instead = owned
            raise ValueError(f"args.{name}: Steppe sets it; use {instead}")
        if self.args.get("enable_auto_tool_choice") and not self.args.get("tool_call_parser"):
            raise ValueError("args.enable_auto_tool_choice needs args.tool_call_parser, found none")
        return self


class SweepSection(Section):
    """How the frontier of the replicas is measured.

    `steppe simulate` computes the frontier instead, for requests of the mean length given here;
    the KV cache counts in that length. If no length is given, it uses the mean request of the load.

    A live run also measures prefill alone and decode alone at three of the clock limits. From all
    three loads it fits what a step costs, so that the operating points follow requests of other
    lengths.
    """

    clocks: Annotated[int, Field(ge=2)] = 5
    """Number of clock limits to measure, spread over the clocks the GPU allows; a simulation
    computes more."""
    lowest_clock_share: Share = 0.5
    """Lowest clock limit to measure, share of the highest. Below the voltage knee, near one half,
    slower clocks cost more joules per token."""
    batch_limits: Annotated[tuple[Count, ...] | None, Field(strict=False, min_length=1)] = None
    """Batch limits to measure, sequences; powers of two up to `engine.max_batch_limit` if absent,
    and more of them in a simulation."""
    window_s: Positive = 2.0
    """Length of one measured window, s; not used by a simulation."""
    prompt_tokens: Count = 128
    """Mean prompt length, tokens."""
    output_tokens: Count = 64
    """Mean output length, tokens."""

    @property
    def gives_lengths(self) -> bool:
        """Whether the file gives a length; without one, a live sweep uses the defaults."""
        return not self.model_fields_set.isdisjoint(("prompt_tokens", "output_tokens"))

    @field_validator("batch_limits")
    @classmethod
    def _each_once(cls, limits: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if limits is None else tuple(dict.fromkeys(limits))


class FrontierSection(Section):
    """The operating points that the controller may choose from.

    Without `file`, a run starts on the frontier that an earlier run measured and cached
    (`steppe frontier list`), or else on the modelled one, and measures it while it serves.
    """

    file: FilePath | None = None
    """A frontier file, used as it is; relative to this file. Excludes `sweep`."""
    files: Annotated[tuple[FilePath, ...], Field(strict=False)] = ()
    """Instead of `file` where the GPUs differ: a frontier file for each kind of GPU. Each replica
    uses the one that names its GPUs."""
    sweep: SweepSection | None = None
    """How the frontier is measured or computed; the defaults if no file is given."""
    refine: bool = True
    """Measure the frontier while serving, on a replica that has no requests and within the watts
    that the fleet leaves unused, and cache it. Has no effect with `file`."""

    @model_validator(mode="before")
    @classmethod
    def _sweep_by_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("file") and not values.get("files"):
            return {**values, "sweep": values.get("sweep") or {}}
        return values

    @model_validator(mode="after")
    def _one_source(self) -> FrontierSection:
        given = (self.file is not None, bool(self.files), self.sweep is not None)
        if sum(given) != 1:
            raise ValueError("give at most one of file, files and sweep")
        return self

    @property
    def is_given(self) -> bool:
        """Whether a file has the operating points."""
        return self.sweep is None


class SleepSection(Section):
    """A sleep deeper than a pause.

    A replica without requests goes there once it has not been needed for so long that the saved
    energy is worth the wake.
    """

    kind: Literal["offloaded", "stopped", "node_off"]
    """`offloaded`: the weights are in the memory of the host (vLLM's sleep level 1). `stopped`: the
    process has ended, and its GPUs have no context. `node_off`: the node is switched off, once all
    its replicas are to be."""
    gpu_w: NonNegative | None = None
    """Draw of one of its GPUs, W. If absent: that of a pause (`offloaded`), that of a GPU without
    a context where it is known, or else 26 W less than a pause (`stopped`; arXiv 2605.23918: 26 to
    50 W), 0 (`node_off`)."""
    wake_s: Positive | None = None
    """Time until the replica serves again, s. If absent: 6 (`offloaded`; vLLM blog: 5.4 s for 235B
    on 4 GPUs), 60 (`stopped`), 300 (`node_off`). A live run uses what it measured."""
    sleep_s: NonNegative | None = None
    """Time to get there, s. If absent: 6 (`offloaded`), 5 (`stopped`), 60 (`node_off`)."""


class FleetSection(Section):
    """Number and size of the replicas."""

    replicas: Count | Literal["all"] = "all"
    """Number of replicas; `all`: as many as the GPUs of the cluster hold."""
    gpus_per_replica: Count = 1
    """GPUs of one replica (tensor parallelism)."""
    node_labels: dict[str, str] = Field(default_factory=dict)
    """Labels that a node of the Ray cluster must have (`ray start --labels`); every node if
    empty."""
    gpu_model: str | None = None
    """Part of NVML's name of the GPUs, such as `H100`, in any case of letters: nodes with other
    GPUs are not used. Absent: any GPU."""
    start_s: Positive = 1800.0
    """Longest time until the first replica serves, s, the download of the model included; then the
    run ends."""
    wait_s: Annotated[float, Field(ge=0)] = 60.0
    """How long the begin of a run waits for further replicas once one serves, s. Later ones join
    when they have started."""
    restarts: Annotated[int, Field(ge=0)] = 8
    """How often a replica is started again, with a growing pause (1 s, 2 s, 4 s to 5 minutes),
    before it is quarantined. Ten minutes without a failure reset the count. A replica on a GPU with
    uncorrected memory errors, or on a lost one, is quarantined at once."""
    sleep: Annotated[tuple[SleepSection, ...], Field(strict=False)] = ()
    """Sleeps deeper than a pause that replicas may use; none if empty."""
    node_off_command: str | None = None
    """Command that switches a node off, such as `ipmitool -H bmc-{node} chassis power soft`.
    `{node}` stands for its address. The driver runs it, without a shell. A live run needs it, and
    `node_on_command`, for the sleep `node_off`; the node of the driver is never switched off."""
    node_on_command: str | None = None
    """Command that switches a node on. The node must join the Ray cluster by itself when it is
    up."""
    node_command_s: Positive = 60.0
    """Longest time of such a command, s; one that fails is repeated after a growing pause."""

    @field_validator("sleep")
    @classmethod
    def _each_depth_once(cls, depths: tuple[SleepSection, ...]) -> tuple[SleepSection, ...]:
        order = ("offloaded", "stopped", "node_off")
        kinds = [depth.kind for depth in depths]
        if kinds != sorted(set(kinds), key=order.index):
            raise ValueError(f"asked for each of {', '.join(order)} at most once, in this order")
        for given in ([d.wake_s for d in depths], [d.gpu_w and -d.gpu_w for d in depths]):
            known = [value for value in given if value is not None]
            if known != sorted(known):
                raise ValueError("asked for wake_s that rise and gpu_w that fall with the depth")
        if "node_off" in kinds and "stopped" not in kinds:
            raise ValueError(
                "node_off needs stopped: engines of a node that comes back are stopped"
            )
        return depths


class SloSection(Section):
    """Service level objective of a request."""

    ttft_s: Positive = 2.0
    """Longest time to the first token, s. While requests wait for power, those that can still keep
    it go first. Requests of class `deferrable` have no TTFT objective."""
    tpot_s: Positive = 0.2
    """Longest mean time per output token after the first, s."""


class PoolSection(ModelSection):
    """One of several models: its replicas, its engine and its SLO."""

    replicas: Count
    """Number of replicas."""
    gpus_per_replica: Count = 1
    """GPUs of one replica (tensor parallelism)."""
    engine: EngineSection | None = None
    """The engine of one replica; the section `engine` if absent."""
    frontier: FrontierSection | None = None
    """The operating points of one replica; the section `frontier` if absent."""
    slo: SloSection | None = None
    """The SLO of a request; the section `slo` if absent."""
    pace: PaceSection | None = None
    """How long its steps take on emulated GPUs; `device.pace` if absent."""
    least_replicas: Annotated[int, Field(ge=0)] | None = None
    """Least number of replicas; its GPUs may go to another model down to that. 0: the model may be
    unloaded altogether until it is asked for. If absent: `replicas`."""
    most_replicas: Count | None = None
    """Largest number of replicas; GPUs of other models may come up to that, if a replica has as
    many there. If absent: `replicas`."""
    load_s: Positive | None = None
    """Time to unload another model and load this one on its GPUs, s. If absent: `wake_s` of the
    sleep `stopped` (60)."""
    load: LoadSection | None = None
    """The requests for this model; the section `load` if absent (`steppe simulate`)."""

    @model_validator(mode="after")
    def _bounds_around_replicas(self) -> PoolSection:
        if not self.least <= self.replicas <= self.most:
            raise ValueError(
                f"replicas: asked for {self.least} to {self.most} (least_replicas, most_replicas), "
                f"found {self.replicas}"
            )
        return self

    @property
    def least(self) -> int:
        """Least number of replicas."""
        return self.replicas if self.least_replicas is None else self.least_replicas

    @property
    def most(self) -> int:
        """Largest number of replicas."""
        return self.replicas if self.most_replicas is None else self.most_replicas


def _cluster_address(address: str) -> str:
    if "://" in address:  # a run's times are those of one host, so its parts must meet there
        raise ValueError(
            "a run is driven from a node of its cluster, not through Ray Client: "
            "run `steppe serve` there, with auto or HOST:PORT"
        )
    if address not in ("local", "auto") and not re.fullmatch(r"\S+:\d+", address):
        raise ValueError("asked for local, auto or HOST:PORT")
    return address


ClusterAddress = Annotated[str, AfterValidator(_cluster_address)]
"""Address of a Ray cluster."""


class RaySection(Section):
    """The Ray cluster to use."""

    address: ClusterAddress = "local"
    """`local` starts a cluster for this run; `auto` or HOST:PORT joins a running one."""

    restart_gcs: bool = False
    """Whether the run goes on when Ray's GCS dies: it keeps its tables in memory that outlives it,
    and is started again on the same port. Ray calls this storage (RocksDB) an alpha feature.
    Without it, the run ends, in order, when the GCS dies. Only with `address: local`."""

    @model_validator(mode="after")
    def _own_gcs(self) -> RaySection:
        if self.restart_gcs and self.address != "local":
            raise ValueError(
                f"restart_gcs is for a cluster that this run starts, and address is {self.address}"
            )
        return self
