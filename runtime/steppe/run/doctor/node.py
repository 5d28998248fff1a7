"""Everything that one host says about itself, and the checks of it."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from steppe.config import EmulatedSection, NvmlSection
from steppe.device.nvml import open_gpus
from steppe.device.nvml_driver import Driver, read_driver
from steppe.emulator.environment import activate_section, remove_state
from steppe.errors import DeviceError, InstallError
from steppe.models.hub import HubAnswer
from steppe.run.doctor.control import ControlFacts, check_control, read_control
from steppe.run.doctor.finding import Finding, Level
from steppe.run.doctor.gpu_facts import GpuFacts, read_gpus
from steppe.run.doctor.gpus import GROUP as GPUS
from steppe.run.doctor.gpus import check_counters, check_driver, check_gpus, missing_driver
from steppe.run.doctor.host import HostFacts, check_host, read_host
from steppe.run.doctor.model import WeightFacts, check_disk, check_memory, read_weights, size_of
from steppe.run.doctor.software import Software, check_software, read_software

VISIBLE = "CUDA_VISIBLE_DEVICES"
WATCH_S = 2.0
"""How long counters and Xids are watched, s: twenty updates of the usual energy counter."""


@dataclass(frozen=True, slots=True)
class NodeQuestion:
    """What to look at on a host.

    Attributes:
        device: The GPUs of the run; emulated ones are made for the question alone.
        model: Name of the model; None if there is none.
        watch_s: How long to watch counters, s; 0 for a quick look.
    """

    device: NvmlSection | EmulatedSection
    model: str | None
    watch_s: float


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One host.

    Attributes:
        host: Its limits.
        software: Its packages.
        driver: Its driver; None if none answers.
        driver_error: Why none answers.
        gpus: Its GPUs.
        control: What may set limits; None for emulated GPUs.
        weights: The weights of the model there; None without a model.
        address: Address of the node in a cluster; empty on this host.
        visible: `CUDA_VISIBLE_DEVICES` of this process; None if it is not set.
    """

    host: HostFacts
    software: Software
    driver: Driver | None
    driver_error: str
    gpus: tuple[GpuFacts, ...]
    control: ControlFacts | None
    weights: WeightFacts | None
    address: str = ""
    visible: str | None = None

    @property
    def name(self) -> str:
        """What a person finds it by."""
        return f"{self.host.name} ({self.address})" if self.address else self.host.name


def read_node(question: NodeQuestion) -> NodeFacts:
    """Look at this host; changes nothing."""
    device = question.device
    facts = NodeFacts(
        host=read_host(),
        software=read_software(),
        driver=None,
        driver_error="",
        gpus=(),
        control=read_control(device) if isinstance(device, NvmlSection) else None,
        weights=None if question.model is None else read_weights(question.model),
        visible=os.environ.get(VISIBLE),
    )
    logging.getLogger("steppe.device").setLevel(logging.ERROR)  # findings say it
    try:
        with _emulated(question):
            driver = read_driver()
            return replace(facts, driver=driver, gpus=read_gpus(open_gpus(), question.watch_s))
    except (DeviceError, InstallError) as error:
        return replace(facts, driver_error=str(error))


@contextmanager
def _emulated(question: NodeQuestion) -> Generator[None]:
    """Emulate GPUs inside the block, if they are to be."""
    if not isinstance(question.device, EmulatedSection):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="steppe-") as folder:
        state = Path(folder) / "gpus"
        activate_section(question.device, state)
        try:
            yield
        finally:
            remove_state(state)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run needs of each host.

    Attributes:
        engine: `engine.kind`.
        gpus_per_replica: GPUs of a replica.
        model: Name of the model; None if there is none.
        emulated: Whether its GPUs are emulated.
        hub: What Hugging Face says of the model; None if it was not asked.
    """

    engine: str = "vllm"
    gpus_per_replica: int = 1
    model: str | None = None
    emulated: bool = False
    hub: HubAnswer | None = None


def check_node(facts: NodeFacts, needs: Needs, *, quick: bool) -> list[Finding]:
    """Return what is to be said about one host.

    Args:
        facts: The host.
        needs: What the run needs.
        quick: Whether its counters were not watched.
    """
    software = check_software(facts.software, engine=needs.engine, emulated=needs.emulated)
    found = [*software, *check_host(facts.host, gpus_per_replica=needs.gpus_per_replica)]
    if facts.driver is None:
        found.append(missing_driver(facts.driver_error))
    else:
        found += [check_driver(facts.driver, facts.software), *check_gpus(facts.gpus)]
        found += _hidden(facts)
    if facts.gpus and not quick:
        found += check_counters(facts.gpus)
    if facts.control is not None and facts.driver is not None:
        found += check_control(facts.control, [gpu.uuid for gpu in facts.gpus])
    if facts.weights is not None and needs.model is not None:
        size = size_of(needs.model, facts.weights, needs.hub)
        found.append(check_disk(needs.model, facts.weights, size))
        found += check_memory(size, facts.gpus, needs.gpus_per_replica)
    return [replace(finding, node=facts.name) for finding in found]


def _hidden(facts: NodeFacts) -> list[Finding]:
    """Look for GPUs that a variable hides from Ray; a task of Ray has one of its own."""
    if facts.visible is None or facts.address:
        return []
    text = f"{VISIBLE} is {facts.visible!r}: Ray uses only these of {len(facts.gpus)} GPUs"
    return [Finding(GPUS, "visible", Level.WARNING, text, f"unset {VISIBLE}, unless it is meant")]
