"""What is served, and by how many replicas."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from steppe.config.section import Count, FilePath, Positive, Section, Share


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

    kind: Literal["vllm", "transformers", "synthetic"] = "vllm"
    max_batch_limit: Count = 64
    """Largest batch limit the controller may set (vLLM's `max_num_seqs`)."""
    max_tokens_per_step: Annotated[int, Field(ge=16)] = 2048
    """Most tokens scheduled in one step (vLLM's `max_num_batched_tokens`)."""
    kv_cache_bytes: Annotated[int, Field(ge=1 << 20)] | None = None
    """Size of the KV cache on each GPU, bytes; when absent vLLM's own choice (GPU only), and with
    transformers that of 16384 tokens. `steppe simulate` takes it on modelled GPUs only: see
    `sim.kv_tokens`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further vLLM engine arguments, passed on as they are; `steppe simulate` goes without them."""

    @model_validator(mode="after")
    def _args_are_vllms(self) -> EngineSection:
        if self.args and self.kind != "vllm":
            raise ValueError(f"args are passed on to vLLM, and kind is {self.kind}")
        return self


class SweepSection(Section):
    """Measure the frontier at start-up, on the replicas themselves.

    `steppe simulate` computes it instead for requests of this mean length, in which it also
    counts the KV cache; where neither length is given, for the mean request of the load.
    """

    clocks: Annotated[int, Field(ge=2)] = 5
    """How many clock limits are measured, spread over what the GPU allows; a simulation
    computes more."""
    lowest_clock_share: Share = 0.5
    """Lowest clock limit to try, share of the highest. Below its knee, near a half, a GPU's
    voltage falls no further: slower clocks then cost more joules per token, not fewer."""
    batch_limits: Annotated[tuple[Count, ...] | None, Field(strict=False, min_length=1)] = None
    """Batch limits to try, each once; powers of two up to the largest when absent,
    and more of them in a simulation."""
    window_s: Positive = 2.0
    """Length of one measured window, s; a simulation has none."""
    prompt_tokens: Count = 128
    output_tokens: Count = 64

    @property
    def gives_lengths(self) -> bool:
        """Whether the file gives a length; without, a live sweep takes the defaults."""
        return not self.model_fields_set.isdisjoint(("prompt_tokens", "output_tokens"))

    @field_validator("batch_limits")
    @classmethod
    def _each_once(cls, limits: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if limits is None else tuple(dict.fromkeys(limits))


class FrontierSection(Section):
    """Where the operating points come from: a file that `steppe` wrote, or a sweep."""

    file: FilePath | None = None
    sweep: SweepSection | None = None

    @model_validator(mode="after")
    def _one_source(self) -> FrontierSection:
        if (self.file is None) == (self.sweep is None):
            raise ValueError("give exactly one of file and sweep")
        return self


class FleetSection(Section):
    """How many replicas, and how large."""

    replicas: Count | Literal["all"] = "all"
    """Replicas of the model; `all`: as many as the GPUs of the cluster hold."""
    gpus_per_replica: Count = 1


def _host(host: str) -> str:
    label = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
    is_name = re.fullmatch(rf"({label}\.)*(?!\d+\.?$){label}\.?", host, re.IGNORECASE)
    if not is_name:
        try:
            ip_address(host)
        except ValueError:
            raise ValueError("asked for an address or the name of a host") from None
    return host


Host = Annotated[str, AfterValidator(_host)]
"""An IP address or a name, whose last part is not all digits."""


class GatewaySection(Section):
    """The HTTP door."""

    host: Host = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    max_waiting: Annotated[int, Field(ge=0)] = 1000
    """Requests that may wait for a replica; of more, the last of the lowest class gets a 503."""
    max_wait_s: Positive = 300.0
    """How long a request of any class may wait for a replica, s; then it gets a 503."""


class SloSection(Section):
    """What a good request is."""

    ttft_s: Positive = 2.0
    """Longest time to the first token, s. While requests wait for watts, those that can still keep
    it are served before those that cannot; of class `deferrable` none is late."""
    tpot_s: Positive = 0.2
    """Longest mean time per output token, s."""


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
"""Where a Ray cluster is."""


class RaySection(Section):
    """Which Ray cluster to use."""

    address: ClusterAddress = "local"
    """`local` starts one for this run; `auto` or an address joins a running one."""
