"""The configuration of a run: one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from steppe.config.batch import BatchSection
from steppe.config.control import BatchControlSection, ControlSection, HorizonSection
from steppe.config.device import (
    AGENT_SOCKET,
    DeviceSection,
    EmulatedSection,
    ModelledSection,
    NvmlSection,
    PaceSection,
    ZeusdSection,
)
from steppe.config.dsx import BrokerSection, DsxSection, FeedSection, InfraSection, IsvSection
from steppe.config.error_message import first_error
from steppe.config.gateway import GatewaySection
from steppe.config.grid import DrillSection, GridSection, HttpSection
from steppe.config.grid_plan import PlanSection
from steppe.config.ledger import GreenSection, LedgerSection, SinkSection, WitnessSection
from steppe.config.load import (
    FailureSection,
    LoadSection,
    PrioritySection,
    SimSection,
    TrafficChangeSection,
)
from steppe.config.offers import CallSection, OffersSection
from steppe.config.openadr import NotifierSection, OpenAdrSection, WebhookSection
from steppe.config.power import (
    SUSTAIN_S,
    BatterySection,
    ClearSkySupply,
    ConstantSupply,
    CustomSupply,
    NodeMeterSection,
    PowerSection,
    ShareOfRatedSupply,
    SignalSupply,
    SiteSection,
    SolarSupply,
    SupplySection,
    SyntheticWindSupply,
    TraceSupply,
    WindSupply,
)
from steppe.config.s2 import S2Section
from steppe.config.section import Section
from steppe.config.serving import (
    EngineSection,
    FleetSection,
    FrontierSection,
    ModelSection,
    PoolSection,
    RaySection,
    SleepSection,
    SloSection,
    SweepSection,
)
from steppe.config.shipped import shipped_config, shipped_runs
from steppe.config.sites import PeerSection, SitesPlanSection, SitesSection
from steppe.config.tenants import KeySection, TenantSection, TenantsSection
from steppe.config.yaml_file import has_list_of_sites, read_mapping
from steppe.errors import ConfigError

__all__ = [
    "AGENT_SOCKET",
    "BatchControlSection",
    "BatchSection",
    "BatterySection",
    "BrokerSection",
    "CallSection",
    "ClearSkySupply",
    "ConstantSupply",
    "ControlSection",
    "CustomSupply",
    "DeviceSection",
    "DrillSection",
    "DsxSection",
    "EmulatedSection",
    "EngineSection",
    "FailureSection",
    "FeedSection",
    "FleetSection",
    "FrontierSection",
    "GatewaySection",
    "GreenSection",
    "GridSection",
    "HorizonSection",
    "HttpSection",
    "InfraSection",
    "IsvSection",
    "KeySection",
    "LedgerSection",
    "LoadSection",
    "ModelSection",
    "ModelledSection",
    "NodeMeterSection",
    "NotifierSection",
    "NvmlSection",
    "OffersSection",
    "OpenAdrSection",
    "PaceSection",
    "PeerSection",
    "PlanSection",
    "PoolSection",
    "PowerSection",
    "PrioritySection",
    "RaySection",
    "RunConfig",
    "S2Section",
    "ShareOfRatedSupply",
    "SignalSupply",
    "SimSection",
    "SinkSection",
    "SiteSection",
    "SitesPlanSection",
    "SitesSection",
    "SleepSection",
    "SloSection",
    "SolarSupply",
    "SupplySection",
    "SweepSection",
    "SyntheticWindSupply",
    "TenantSection",
    "TenantsSection",
    "TraceSupply",
    "TrafficChangeSection",
    "WebhookSection",
    "WindSupply",
    "WitnessSection",
    "ZeusdSection",
    "load_config",
    "parse_config",
    "shipped_config",
    "shipped_runs",
]


_Model = TypeVar("_Model", bound=ModelSection)


Variants = Annotated[tuple[str, ...], Field(strict=False)]
"""Names of models, best first."""


class RunConfig(Section):
    """One run: one YAML file, such as those of `configs/`."""

    models: Annotated[tuple[PoolSection, ...], Field(strict=False)] = ()
    """Several language models behind one endpoint, on one power budget; instead of `model`."""
    aliases: dict[str, Variants] = Field(default_factory=dict)
    """Names that clients may ask for instead of a model, each with two or more of `models`, best
    first. While watts are short, a smaller one serves its requests where that keeps the SLO of
    more of them."""
    model: ModelSection
    """The language model to serve. If absent, the first one of `models`."""
    engine: EngineSection = EngineSection()
    """The engine of one replica."""
    fleet: FleetSection = FleetSection()
    """Number and size of the replicas."""
    device: DeviceSection
    """The GPUs: real (`nvml`), `emulated` or `modelled`."""
    power: PowerSection
    """The power budget at the site boundary."""
    site: SiteSection = SiteSection()
    """Power of the site beside the GPUs."""
    frontier: FrontierSection = FrontierSection()
    """The operating points that the controller may choose from."""
    control: ControlSection = ControlSection()
    """The control loop."""
    gateway: GatewaySection = GatewaySection()
    """The HTTP endpoint that clients use."""
    tenants: TenantsSection = TenantsSection()
    """Who may ask the gateway, and how much."""
    batch: BatchSection | None = None
    """The Batch API; absent, there is none."""
    ledger: LedgerSection | None = None
    """Receipts, tariffs and accounts; absent, there are none."""
    grid: GridSection | None = None
    """Limits and events of the grid; absent, there are none."""
    sites: SitesSection | None = None
    """Other sites that serve the same models; absent, there are none."""
    slo: SloSection = SloSection()
    """Service level objective of a request."""
    ray: RaySection = RaySection()
    """The Ray cluster to use."""
    load: LoadSection = LoadSection()
    """The load of `steppe demo` and `steppe simulate`."""
    sim: SimSection = SimSection()
    """Settings of `steppe simulate` only."""

    @model_validator(mode="before")
    @classmethod
    def _first_of_models(cls, values: Any) -> Any:
        """Take the model that single-model commands use from the first of `models`."""
        if not isinstance(values, dict) or not values.get("models"):
            return values
        if "model" in values:
            raise ValueError("give model or models, not both")
        first = values["models"][0] if isinstance(values["models"], list | tuple) else None
        known = ModelSection.model_fields
        if isinstance(first, Mapping):
            return {**values, "model": {key: first[key] for key in first if key in known}}
        return values

    @model_validator(mode="before")
    @classmethod
    def _ledger_of_site(cls, values: Any) -> Any:
        """Name the ledger after this site, among several sites, if it has no other name."""
        if not isinstance(values, dict):
            return values
        sites, ledger = values.get("sites"), values.get("ledger")
        if isinstance(sites, Mapping) and isinstance(ledger, Mapping) and "name" in sites:
            return {**values, "ledger": {"site": sites["name"], **ledger}}
        return values

    @model_validator(mode="after")
    def _ledger_is_of_this_site(self) -> RunConfig:
        if self.sites is None or self.ledger is None or self.ledger.site == self.sites.name:
            return self
        asked = f"asked for {self.sites.name}, the name of this site"
        raise ValueError(f"ledger.site: {asked}, found {self.ledger.site}")

    @model_validator(mode="after")
    def _models_are_distinct(self) -> RunConfig:
        names = [model.client_name for model in self.models]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"models: {double!r} is there twice; give one a served_name")
        if len(self.models) > 1 and self.control.horizon is not None:
            raise ValueError("control.horizon: it plans for one model, found several")
        move = any(model.least < model.most for model in self.models)
        if move and any(sleep.kind == "node_off" for sleep in self.fleet.sleep):
            raise ValueError(
                "fleet.sleep: node_off needs replicas that stay with their model, found "
                "models with least_replicas or most_replicas"
            )
        return self

    @model_validator(mode="after")
    def _aliases_are_known(self) -> RunConfig:
        names = [model.client_name for model in self.models]
        for alias, variants in self.aliases.items():
            if alias in names:
                raise ValueError(f"aliases: {alias!r} is the name of a model")
            if len(set(variants)) != len(variants) or len(variants) < 2:
                raise ValueError(
                    f"aliases.{alias}: asked for two or more different models, "
                    f"found {', '.join(variants) or 'none'}"
                )
            if unknown := [name for name in variants if name not in names]:
                known = ", ".join(names) or "none"
                raise ValueError(f"aliases.{alias}: asked for {unknown[0]}, found models: {known}")
        loads = [self.load, *(model.load for model in self.models if model.load is not None)]
        asked = next(
            (load.alias for load in loads if load.alias not in (None, *self.aliases)), None
        )
        if asked is not None:
            known = ", ".join(self.aliases) or "none"
            raise ValueError(f"load.alias: asked for {asked}, found aliases: {known}")
        return self

    @property
    def pools(self) -> dict[str, RunConfig]:
        """The configuration of each model alone, by the name that clients use."""
        if not self.models:
            return {self.model.client_name: self}
        return {model.client_name: self._alone(model) for model in self.models}

    def _alone(self, pool: PoolSection) -> RunConfig:
        model = ModelSection(**{key: getattr(pool, key) for key in ModelSection.model_fields})
        size = {"replicas": pool.replicas, "gpus_per_replica": pool.gpus_per_replica}
        found: dict[str, Any] = {
            "model": model,
            "models": (),
            "aliases": {},
            "fleet": self.fleet.model_copy(update=size),
        }
        for key in ("engine", "frontier", "slo", "load"):
            if (section := getattr(pool, key)) is not None:
                found[key] = section
        if pool.pace is not None and isinstance(self.device, EmulatedSection):
            found["device"] = self.device.model_copy(update={"pace": pool.pace})
        return self.model_copy(update=found)

    @model_validator(mode="after")
    def _one_gpu_for_transformers(self) -> RunConfig:
        if self.engine.kind == "transformers" and self.fleet.gpus_per_replica > 1:
            raise ValueError("engine.kind transformers runs on one GPU: fleet.gpus_per_replica")
        return self

    @property
    def serves_without_keys(self) -> bool:
        """Whether everybody who reaches the gateway may ask."""
        return not (self.tenants.asks_for_keys or self.gateway.trusted_proxies)

    @model_validator(mode="after")
    def _keys_for_other_hosts(self) -> RunConfig:
        gateway = self.gateway
        is_allowed = gateway.is_local or gateway.allow_without_keys
        found = "nodes: every" if gateway.nodes == "every" else gateway.host
        if self.serves_without_keys and not is_allowed:
            raise ValueError(
                "gateway.host: asked for a host of this machine, for no keys are configured "
                f"(tenants.list, tenants.store), found {found}; "
                "gateway.allow_without_keys serves everybody"
            )
        return self

    @model_validator(mode="after")
    def _horizon_has_a_battery(self) -> RunConfig:
        if self.control.horizon is not None and self.power.battery is None:
            raise ValueError("control.horizon: it plans power.battery, found none")
        return self

    @model_validator(mode="after")
    def _ticks_a_battery_sustains(self) -> RunConfig:
        tick_s = self.power.speedup * self.control.period_s
        if self.power.battery is not None and tick_s > SUSTAIN_S:
            limit = f"at most {SUSTAIN_S:.16g} s of trace in a tick with a battery"
            raise ValueError(f"power.speedup: asked for {limit}, found {tick_s:.16g} s")
        return self


def load_config(path: Path) -> RunConfig:
    """Read a run configuration; relative paths in it are relative to its folder.

    `model.name` and `device.gpu` count as a path if that path exists, else as a name.

    Raises:
        ConfigError: The file is missing or malformed, has an unknown key or a key twice, or a
            value is out of range. The message is one line and names the key.
    """
    values = read_mapping(path)
    if has_list_of_sites(values):
        raise ConfigError(f"{path}: asked for one run, found a list of sites: see steppe simulate")
    return parse_config(values, str(path), path.parent)


def parse_config(values: Mapping[str, Any], source: str, folder: Path) -> RunConfig:
    """Return the run configuration of these values.

    Args:
        values: What a YAML file would hold.
        source: Name of the source, which an error begins with.
        folder: Relative paths are relative to it.

    Raises:
        ConfigError: A key is unknown, or a value is out of range.
    """
    try:
        config = RunConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_error(error, RunConfig)}") from error
    return _resolve_paths(config, folder)


def _with_path(model: _Model, folder: Path) -> _Model:
    if not (folder / model.name / "config.json").is_file():
        return model
    return model.model_copy(update={"name": str(folder / model.name)})


def _pool_paths(model: PoolSection, folder: Path) -> PoolSection:
    model = _with_path(model, folder)
    found: dict[str, Any] = {}
    if model.frontier is not None:
        found["frontier"] = _frontier_paths(model.frontier, folder)
    if model.load is not None and model.load.trace != "synthetic":
        trace = str(folder / model.load.trace)
        found["load"] = model.load.model_copy(update={"trace": trace})
    return model.model_copy(update=found)


def _frontier_paths(frontier: FrontierSection, folder: Path) -> FrontierSection:
    file = None if frontier.file is None else folder / frontier.file
    files = tuple(folder / each for each in frontier.files)
    return frontier.model_copy(update={"file": file, "files": files})


def _batch_paths(batch: BatchSection, folder: Path) -> BatchSection:
    place = batch.store
    if place is not None and "://" not in place:
        place = str(folder / place)
    return batch.model_copy(update={"folder": folder / batch.folder, "store": place})


def _resolve_paths(config: RunConfig, folder: Path) -> RunConfig:
    sources = {
        key: tuple(
            source.model_copy(update={"path": folder / source.path})
            if isinstance(source, TraceSupply | SignalSupply)
            else source
            for source in parts
        )
        for key, parts in (("supply", config.power.supply), ("limits", config.power.limits))
    }
    power = config.power.model_copy(update=sources)
    updates: dict[str, Any] = {"power": power}
    if config.load.trace != "synthetic":
        trace = str(folder / config.load.trace)
        updates["load"] = config.load.model_copy(update={"trace": trace})
    names = ("admin_key_file", "access_log_file", "tls_certificate", "tls_key")
    files = {key: getattr(config.gateway, key) for key in names}
    found = {key: folder / path for key, path in files.items() if path is not None}
    updates["gateway"] = config.gateway.model_copy(update=found)
    store = config.tenants.store
    if store is not None and "://" not in store:
        updates["tenants"] = config.tenants.model_copy(update={"store": str(folder / store)})
    if config.batch is not None:
        updates["batch"] = _batch_paths(config.batch, folder)
    if config.ledger is not None:
        updates["ledger"] = config.ledger.resolved(folder)
    if config.grid is not None:
        updates["grid"] = config.grid.resolved(folder)
    if config.sites is not None:
        updates["sites"] = config.sites.resolved(folder)
    updates["frontier"] = _frontier_paths(config.frontier, folder)
    updates["model"] = _with_path(config.model, folder)
    updates["models"] = tuple(_pool_paths(model, folder) for model in config.models)
    if isinstance(config.device, ModelledSection) and (folder / config.device.gpu).is_file():
        gpu = str(folder / config.device.gpu)
        updates["device"] = config.device.model_copy(update={"gpu": gpu})
    return config.model_copy(update=updates)
