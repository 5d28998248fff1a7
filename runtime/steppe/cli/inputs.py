"""The files that a configuration names, looked at before anything is started."""

from __future__ import annotations

from pathlib import Path

from steppe.config import ModelledSection, RunConfig
from steppe.frontier.file import read_frontier
from steppe.frontier.roofline_file import read_roofline
from steppe.load.traces import read_trace
from steppe.power.budget import budget_from_config


def check_files(config: RunConfig) -> None:
    """Read every file that a run of the configuration will need.

    Raises:
        ConfigError: The frontier file cannot be read, or a modelled GPU is not known.
        ModelError: A model on a modelled GPU is not known.
        TraceError: A supply or request trace cannot be read.
    """
    budget_from_config(config.power, config.site)
    if config.frontier.file is not None:
        read_frontier(config.frontier.file, config.engine.max_batch_limit)
    if config.load.trace != "synthetic":
        read_trace(Path(config.load.trace))
    if isinstance(config.device, ModelledSection):
        read_roofline(config.model.name, config.device.gpu, config.fleet.gpus_per_replica)
