"""What a replica is expected to send, before anything is measured."""

from __future__ import annotations

from collections.abc import Collection

from steppe.config import EmulatedSection, ModelledSection, RunConfig
from steppe.errors import ConfigError, UsageError
from steppe.load.generators import SEQUENCE_TPS
from steppe.roofline.files import spec_name
from steppe.roofline.lengths import RequestLengths
from steppe.sim.build import kind_of, modelled_replica
from steppe.sim.engine.kind import ReplicaKind
from steppe.sim.points import modelled_point

FASTEST_LENGTHS = RequestLengths(1, 256)
"""Decoding alone: no other load gives as many output tokens/s."""


def expected_tps(config: RunConfig, gpu_names: Collection[str]) -> float:
    """Return the most output tokens/s of a replica, modelled, or else by its batch limit.

    Args:
        config: The run.
        gpu_names: What NVML calls its GPUs.
    """
    batch_limit = config.engine.max_batch_limit
    try:
        kind = modelled_kind(config, gpu_names, FASTEST_LENGTHS)
    except UsageError:  # the roofline lacks the model or the GPU
        return batch_limit * SEQUENCE_TPS
    return modelled_point(kind, kind.full_clock_mhz, batch_limit, FASTEST_LENGTHS).output_tps


def modelled_kind(
    config: RunConfig, gpu_names: Collection[str], lengths: RequestLengths
) -> ReplicaKind:
    """Return the replicas of a fleet by the emulated GPU's formula, or by the energy roofline.

    Args:
        config: The run.
        gpu_names: What NVML calls its GPUs.
        lengths: The mean request.

    Raises:
        ConfigError: The roofline does not know the GPUs, or they differ.
        ModelError: It does not know the model.
    """
    if not isinstance(config.device, EmulatedSection):
        known = {spec_name(name) for name in gpu_names}
        if len(known) != 1:
            raise ConfigError(f"asked for GPUs of one kind, found {', '.join(sorted(known))}")
        device = ModelledSection(kind="modelled", gpu=known.pop())
        config = config.model_copy(update={"device": device})
    return kind_of(config, modelled_replica(config, lengths))
