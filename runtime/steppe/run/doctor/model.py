"""The weights of the model: are they here, may they be downloaded, do they fit?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steppe.errors import InstallError, ModelError
from steppe.models.hub import HubAnswer, cached_snapshot, hub_cache, weights_bytes
from steppe.models.store import known_models, models_folder
from steppe.roofline.files import read_model_shape
from steppe.run.doctor.finding import Finding, Level
from steppe.run.doctor.gpu_facts import GpuFacts
from steppe.run.doctor.host import free_bytes

GROUP = "model"
KNOWN_BYTES = 1_000_000_000
"""Disk that a known model takes while it is made (SmolLM2-135M: 270 MB and its download)."""
MEMORY_SHARE = 0.92
"""Share of a GPU's memory that vLLM takes by default (`gpu_memory_utilization`)."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """The weights of a model on one host.

    Attributes:
        place: Folder that they are in, or are downloaded to.
        here_bytes: Their size there, bytes; None if they are not all there.
        free_bytes: Free space there, bytes.
        is_from_hub: Whether they come from Hugging Face.
    """

    place: str
    here_bytes: int | None
    free_bytes: int
    is_from_hub: bool


def read_weights(name: str) -> WeightFacts:
    """Return where the weights of a model are on this host; downloads nothing."""
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return WeightFacts(str(folder), weights_bytes(folder), free_bytes(folder), False)
    if name in known_models():
        made = models_folder() / name
        here = weights_bytes(made) if made.is_dir() else None
        return WeightFacts(str(made), here, free_bytes(made), False)
    try:
        cache = hub_cache()
    except InstallError:
        return WeightFacts("", None, 0, True)
    snapshot = cached_snapshot(name, cache)
    here = None if snapshot is None else weights_bytes(snapshot)
    return WeightFacts(str(snapshot or cache), here, free_bytes(cache), True)


def size_of(name: str, facts: WeightFacts, hub: HubAnswer | None) -> float | None:
    """Return the size of a model's weights, bytes; None if nothing says it."""
    if facts.here_bytes is not None:
        return facts.here_bytes
    if hub is not None and hub.size_bytes is not None:
        return hub.size_bytes
    try:
        return read_model_shape(name).weight_bytes
    except (ModelError, OSError):
        return None


def check_hub(name: str, hub: HubAnswer) -> Finding:
    """Return whether a model that is not here can be downloaded."""
    if hub.refused:
        advice = f"see https://huggingface.co/{name}, then `hf auth login` or HF_TOKEN"
        return Finding(GROUP, "download", Level.FATAL, f"{name}: {hub.refused}", advice)
    if hub.unreachable:
        text = f"{name} is not on this host, and Hugging Face does not answer: {hub.unreachable}"
        advice = (
            f"where there is a network: hf download {name} --local-dir DIR; copy DIR to every "
            "node, and give it as model.name"
        )
        return Finding(GROUP, "download", Level.WARNING, text, advice)
    size = "" if hub.size_bytes is None else f" ({hub.size_bytes / GB:.1f} GB)"
    return Finding(GROUP, "download", Level.OK, f"{name} can be downloaded{size}")


def check_disk(name: str, facts: WeightFacts, size: float | None) -> Finding:
    """Return whether the weights are on a host, or have room there.

    Args:
        name: The model.
        facts: Its weights on the host.
        size: Their size, bytes; None if unknown.
    """
    if facts.here_bytes is not None:
        text = f"{facts.here_bytes / GB:.1f} GB of weights in {facts.place}"
        return Finding(GROUP, "weights", Level.OK, text)
    if not facts.is_from_hub:
        size = KNOWN_BYTES
    if not facts.place:
        text = "huggingface_hub is not installed, so it is unknown where the weights would be"
        return Finding(GROUP, "disk", Level.UNKNOWN, text)
    free = f"{facts.free_bytes / GB:.0f} GB free in {facts.place}"
    if size is None:
        return Finding(GROUP, "disk", Level.UNKNOWN, f"{free}, and the size of {name} is unknown")
    if facts.free_bytes < size:
        advice = "make room, or set HF_HOME to a folder on a larger disk"
        text = f"{free}, the weights take {size / GB:.0f} GB"
        return Finding(GROUP, "disk", Level.FATAL, text, advice)
    return Finding(GROUP, "disk", Level.OK, f"{free} for {size / GB:.0f} GB of weights")


def check_memory(
    size: float | None, gpus: Sequence[GpuFacts], gpus_per_replica: int
) -> list[Finding]:
    """Return whether the weights fit the GPUs of a replica; nothing without a size.

    Args:
        size: Size of the weights, bytes.
        gpus: The GPUs of one host.
        gpus_per_replica: GPUs that share the weights.
    """
    memories = [gpu.memory_bytes for gpu in gpus if gpu.memory_bytes is not None]
    if size is None or not memories:
        return []
    room = MEMORY_SHARE * min(memories) * gpus_per_replica
    text = (
        f"{size / GB:.1f} GB of weights, {room / GB:.0f} GB of GPU memory for a replica "
        f"({gpus_per_replica} x {min(memories) / GB:.0f} GB)"
    )
    if size < room:
        return [Finding(GROUP, "memory", Level.OK, text)]
    advice = "raise fleet.gpus_per_replica, or serve a smaller or quantised model"
    return [Finding(GROUP, "memory", Level.FATAL, text, advice)]
