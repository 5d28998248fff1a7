"""`steppe doctor`: look at every host of a run, and say what would keep it from working."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from steppe.config import EmulatedSection, ModelledSection, NvmlSection, RunConfig
from steppe.errors import ConfigError, StartError, UsageError
from steppe.models.hub import HubAnswer, ask_hub
from steppe.run.check_inputs import check_config
from steppe.run.doctor.budget import check_budget, check_room
from steppe.run.doctor.finding import Finding, Level, worst
from steppe.run.doctor.gpu_facts import GpuFacts
from steppe.run.doctor.host import check_port
from steppe.run.doctor.model import check_hub
from steppe.run.doctor.node import (
    WATCH_S,
    Needs,
    NodeFacts,
    NodeQuestion,
    check_node,
    read_node,
)
from steppe.run.frontier_subject import configured_frontier

if TYPE_CHECKING:
    from steppe.fleet.every_node import NodeAnswer

_log = logging.getLogger(__name__)

LOCAL = "local"
NODES_S = 60.0
"""Longest wait for the nodes of a cluster, s: a first task starts a process on each."""
FORCED = "`steppe serve --force` uses it all the same"

AskNodes: TypeAlias = "Callable[[RunConfig, NodeQuestion], list[NodeAnswer[NodeFacts]]]"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        nodes: The hosts.
        findings: All findings.
    """

    nodes: tuple[NodeFacts, ...]
    findings: tuple[Finding, ...]

    @property
    def is_emulated(self) -> bool:
        """Whether a GPU is emulated, as its driver says."""
        return any(gpu.is_emulated for node in self.nodes for gpu in node.gpus)

    @property
    def fatal(self) -> tuple[Finding, ...]:
        """What keeps a run from working."""
        return tuple(finding for finding in self.findings if finding.level is Level.FATAL)

    @property
    def level(self) -> Level:
        """The worst level."""
        return worst(self.findings)


def ask_cluster(config: RunConfig, question: NodeQuestion) -> list[NodeAnswer[NodeFacts]]:
    """Look at every GPU node of a run's Ray cluster at once.

    Raises:
        StartError: No cluster answers.
        ConfigError: No node has the labels of the configuration.
    """
    from steppe.fleet.every_node import ask_every_node  # a host without Ray has a doctor, too

    labels = config.fleet.node_labels
    return ask_every_node(config.ray.address, read_node, question, NODES_S, labels)


def examine_host(device: NvmlSection | EmulatedSection) -> Diagnosis:
    """Look at this host, without a run."""
    facts = read_node(NodeQuestion(device, None, WATCH_S))
    needs = Needs(emulated=isinstance(device, EmulatedSection))
    return Diagnosis((facts,), tuple(check_node(facts, needs, quick=False)))


def examine(
    config: RunConfig,
    *,
    read: Callable[[NodeQuestion], NodeFacts] = read_node,
    ask_nodes: AskNodes = ask_cluster,
    hub: Callable[[str], HubAnswer] = ask_hub,
) -> Diagnosis:
    """Look at every host of a run, and at what the run needs.

    Args:
        config: The run.
        read: Looks at this host.
        ask_nodes: Looks at every node of a cluster.
        hub: Asks Hugging Face.

    Raises:
        ConfigError: The GPUs are only modelled, or the configuration is not valid.
    """
    check_config(config)
    if isinstance(config.device, ModelledSection):
        raise ConfigError("device.kind: asked to look at modelled GPUs: only `simulate` has them")
    model = config.model.name if config.engine.kind != "synthetic" else None
    nodes, lost = _nodes(config, NodeQuestion(config.device, model, WATCH_S), read, ask_nodes)
    needs = _needs(config, model)
    from_hub = any(n.weights is not None and _is_missing(n) for n in nodes)
    answer = hub(model) if model is not None and from_hub else None
    needs = replace(needs, hub=answer)
    found = [*lost, check_port(config.gateway)]
    if model is not None and answer is not None:
        found.append(check_hub(model, answer))
    for node in nodes:
        found += check_node(node, needs, quick=False)
    return Diagnosis(nodes, (*found, *_run(config, nodes)))


def _is_missing(node: NodeFacts) -> bool:
    weights = node.weights
    return weights is not None and weights.is_from_hub and weights.here_bytes is None


def _needs(config: RunConfig, model: str | None) -> Needs:
    return Needs(
        engine=config.engine.kind,
        gpus_per_replica=config.fleet.gpus_per_replica,
        model=model,
        emulated=isinstance(config.device, EmulatedSection),
    )


def _nodes(
    config: RunConfig,
    question: NodeQuestion,
    read: Callable[[NodeQuestion], NodeFacts],
    ask_nodes: AskNodes,
) -> tuple[tuple[NodeFacts, ...], list[Finding]]:
    """Return the hosts of a run, and a finding for each that does not answer."""
    if config.ray.address == LOCAL:
        return (read(question),), []
    try:
        answers = ask_nodes(config, question)
    except (StartError, UsageError) as error:
        advice = "start the cluster (`ray start --head`, then `ray start --address` on each node)"
        return (), [Finding("cluster", "Ray", Level.FATAL, str(error), advice)]
    found = tuple(
        replace(each.answer, address=each.address) for each in answers if each.answer is not None
    )
    lost = [
        Finding("cluster", "node", Level.FATAL, f"{each.address}: {each.error}", "see its Ray logs")
        for each in answers
        if each.answer is None
    ]
    text = f"{len(found)} of {len(answers)} GPU nodes answer at {config.ray.address}"
    level = Level.OK if found else Level.FATAL
    advice = "" if found else "start Ray on the nodes with GPUs (`ray start --address`)"
    used, other = _of_the_model(config, found)
    return used, [Finding("cluster", "Ray", level, text, advice), *lost, *other]


def _of_the_model(
    config: RunConfig, nodes: tuple[NodeFacts, ...]
) -> tuple[tuple[NodeFacts, ...], list[Finding]]:
    """Return the hosts whose GPUs are of `fleet.gpu_model`, and a finding about the others."""
    from steppe.fleet.driver.room import is_model

    wanted = config.fleet.gpu_model
    used = tuple(n for n in nodes if all(is_model(gpu.name, wanted) for gpu in n.gpus))
    if len(used) == len(nodes):
        return nodes, []
    names = sorted({gpu.name for n in nodes if n not in used for gpu in n.gpus})
    text = f"{len(nodes) - len(used)} nodes have other GPUs than {wanted}: {', '.join(names)}"
    level = Level.OK if used else Level.FATAL
    return used, [Finding("cluster", "GPU model", level, text, "see fleet.gpu_model")]


def _gpus(nodes: Sequence[NodeFacts]) -> list[tuple[GpuFacts, ...]]:
    return [node.gpus for node in nodes]


def _run(config: RunConfig, nodes: Sequence[NodeFacts], *, any_gpu: bool = False) -> list[Finding]:
    """Return what is to be said about the run and its GPUs as a whole."""
    gpus = _gpus(nodes)
    if not any(gpus):
        return []
    found = [check_room(config, gpus)]
    if config.frontier.file is not None and not any_gpu:
        found.append(_frontier(config, {gpu.name for part in gpus for gpu in part}))
    return [*found, *check_budget(config, gpus)]


def _frontier(config: RunConfig, names: set[str]) -> Finding:
    try:
        configured_frontier(config, names)
    except ConfigError as error:
        return Finding("budget", "frontier", Level.FATAL, str(error), FORCED)
    return Finding("budget", "frontier", Level.OK, f"{config.frontier.file} is of these GPUs")


def refuse_unfit(
    config: RunConfig,
    read: Callable[[NodeQuestion], NodeFacts] = read_node,
    ask_nodes: AskNodes = ask_cluster,
    *,
    serves: bool = False,
    any_gpu: bool = False,
) -> None:
    """Refuse a run that its hosts cannot carry; a quick look, before anything starts.

    A run goes on as long as one node of its cluster is fit; the others are logged. Emulated GPUs
    of this host are always fit, and a cluster that cannot be joined is left to the start itself.

    Args:
        config: The run.
        read: Looks at this host.
        ask_nodes: Looks at every node of a cluster.
        serves: Whether the run follows its budget and uses its frontier file; a sweep does not.
        any_gpu: Whether to take a frontier file of another GPU.

    Raises:
        StartError: Something is fatal; the message names the first finding and what to do.
    """
    is_local = config.ray.address == LOCAL
    if isinstance(config.device, ModelledSection) or (
        is_local and isinstance(config.device, EmulatedSection)
    ):
        return
    model = config.model.name if config.engine.kind != "synthetic" else None
    nodes, _ = _nodes(config, NodeQuestion(config.device, model, 0.0), read, ask_nodes)
    needs = _needs(config, model)
    found = [(node, _fatal(check_node(node, needs, quick=True))) for node in nodes]
    fit = tuple(node for node, fatal in found if not fatal)
    if found and not fit:
        raise StartError(_refusal(found[0][1]))
    for node, fatal in found:
        if fatal:
            _log.warning("node %s: %s", node.name, _refusal(fatal))
    if not any(node.gpus for node in fit):
        return
    about = _run(config, fit, any_gpu=any_gpu) if serves else [check_room(config, _gpus(fit))]
    fatal = _fatal(about)
    if fatal:
        raise StartError(_refusal(fatal))


def _fatal(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is Level.FATAL]


def _refusal(fatal: Sequence[Finding]) -> str:
    first = fatal[0]
    more = f" ({len(fatal) - 1} more)" if len(fatal) > 1 else ""
    return (
        f"{first.group}, {first.check}: {first.found}: {first.advice}{more}; "
        "`steppe doctor` shows everything"
    )
