"""Ask every node of a Ray cluster the same question, all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray

from steppe.fleet.cluster import (
    connect,
    error_line,
    gpu_machines,
    leave,
    on_node,
    refuse_unmatched_labels,
)

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class NodeAnswer(Generic[Answer]):
    """The answer of one node.

    Attributes:
        address: Address of the node.
        answer: What it answered; None if it did not.
        error: Why there is no answer; empty if there is one.
    """

    address: str
    answer: Answer | None
    error: str = ""


def ask_every_node(
    address: str,
    function: Callable[[Question], Answer],
    question: Question,
    timeout_s: float,
    labels: Mapping[str, str],
) -> list[NodeAnswer[Answer]]:
    """Join a cluster, call a function on each of its nodes with GPUs in parallel, and leave it.

    Args:
        address: Address of the cluster.
        function: A function of an importable module; it runs in a process of the node.
        question: Its argument.
        timeout_s: Longest wait for the answers, s.
        labels: Labels that a node must have; other nodes are not asked.

    Raises:
        ConfigError: No GPU node has these labels.
        StartError: No cluster answers at the address.
        UsageError: The cluster requires another token.
    """
    connect(address)
    try:
        refuse_unmatched_labels(labels)
        task: Any = ray.remote(function)
        nodes = gpu_machines(local=False, labels=labels)
        calls = [
            task.options(num_cpus=0, scheduling_strategy=on_node(node.id)).remote(question)
            for node in nodes
        ]
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=timeout_s)
        return [
            _answer(node.address, call, timeout_s) for node, call in zip(nodes, calls, strict=True)
        ]
    finally:
        leave(address)


def _answer(address: str, call: Any, timeout_s: float) -> NodeAnswer[Any]:
    try:
        return NodeAnswer(address, ray.get(call, timeout=0))
    except ray.exceptions.GetTimeoutError:
        return NodeAnswer(address, None, f"no answer within {timeout_s:g} s")
    except ray.exceptions.RayError as error:
        return NodeAnswer(address, None, error_line(error))
