"""Run configuration: one YAML file is one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from steppe.config.control import ControlSection, HorizonSection
from steppe.config.device import (
    AGENT_SOCKET,
    DeviceSection,
    EmulatedSection,
    ModelledSection,
    NvmlSection,
    PaceSection,
    ZeusdSection,
)
from steppe.config.load import FailureSection, LoadSection, PrioritySection, SimSection
from steppe.config.mistake import first_mistake
from steppe.config.power import (
    SUSTAIN_S,
    BatterySection,
    ConstantSupply,
    PowerSection,
    SignalSupply,
    SiteSection,
    SolarSupply,
    SupplySection,
    TraceSupply,
    WindSupply,
)
from steppe.config.section import Section
from steppe.config.serving import (
    EngineSection,
    FleetSection,
    FrontierSection,
    GatewaySection,
    ModelSection,
    RaySection,
    SloSection,
    SweepSection,
)
from steppe.config.shipped import shipped_config
from steppe.config.yaml_file import read_mapping
from steppe.errors import ConfigError

__all__ = [
    "AGENT_SOCKET",
    "BatterySection",
    "ConstantSupply",
    "ControlSection",
    "DeviceSection",
    "EmulatedSection",
    "EngineSection",
    "FailureSection",
    "FleetSection",
    "FrontierSection",
    "GatewaySection",
    "HorizonSection",
    "LoadSection",
    "ModelSection",
    "ModelledSection",
    "NvmlSection",
    "PaceSection",
    "PowerSection",
    "PrioritySection",
    "RaySection",
    "RunConfig",
    "SignalSupply",
    "SimSection",
    "SiteSection",
    "SloSection",
    "SolarSupply",
    "SupplySection",
    "SweepSection",
    "TraceSupply",
    "WindSupply",
    "ZeusdSection",
    "load_config",
    "shipped_config",
]


class RunConfig(Section):
    """One run: one file under `configs/`."""

    model: ModelSection
    engine: EngineSection = EngineSection()
    fleet: FleetSection = FleetSection()
    device: DeviceSection
    power: PowerSection
    site: SiteSection = SiteSection()
    frontier: FrontierSection
    control: ControlSection = ControlSection()
    gateway: GatewaySection = GatewaySection()
    slo: SloSection = SloSection()
    ray: RaySection = RaySection()
    load: LoadSection = LoadSection()
    sim: SimSection = SimSection()

    @model_validator(mode="after")
    def _one_gpu_for_transformers(self) -> RunConfig:
        if self.engine.kind == "transformers" and self.fleet.gpus_per_replica > 1:
            raise ValueError("engine.kind transformers runs on one GPU: fleet.gpus_per_replica")
        return self

    @model_validator(mode="after")
    def _ticks_a_battery_sustains(self) -> RunConfig:
        tick_s = self.power.speedup * self.control.period_s
        if self.power.battery is not None and tick_s > SUSTAIN_S:
            asked = f"at most {SUSTAIN_S:.16g} s of trace in a tick with a battery"
            raise ValueError(f"power.speedup: asked for {asked}, found {tick_s:.16g} s")
        return self


def load_config(path: Path) -> RunConfig:
    """Read a run configuration; relative paths inside it are relative to its folder.

    A model or a GPU may have a name instead of a path: it is a path where there is one.

    Raises:
        ConfigError: The file is missing or malformed, has an unknown key or one twice, or a
            value is out of range. The message is one line and names the key.
    """
    values = read_mapping(path)
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_mistake(error, RunConfig)}") from error
    return _resolve_paths(config, path.parent)


def _resolve_paths(config: RunConfig, folder: Path) -> RunConfig:
    sources = tuple(
        source.model_copy(update={"path": folder / source.path})
        if isinstance(source, TraceSupply | SignalSupply)
        else source
        for source in config.power.supply
    )
    power = config.power.model_copy(update={"supply": sources})
    updates: dict[str, Any] = {"power": power}
    if config.load.trace != "synthetic":
        trace = str(folder / config.load.trace)
        updates["load"] = config.load.model_copy(update={"trace": trace})
    if config.frontier.file is not None:
        file = folder / config.frontier.file
        updates["frontier"] = config.frontier.model_copy(update={"file": file})
    if (folder / config.model.name / "config.json").is_file():
        name = str(folder / config.model.name)
        updates["model"] = config.model.model_copy(update={"name": name})
    if isinstance(config.device, ModelledSection) and (folder / config.device.gpu).is_file():
        gpu = str(folder / config.device.gpu)
        updates["device"] = config.device.model_copy(update={"gpu": gpu})
    return config.model_copy(update=updates)
