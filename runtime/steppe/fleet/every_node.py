"""Ask every node of a Ray cluster the same question, all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray

from steppe.fleet.cluster import connect, error_line, leave, on_node

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
) -> list[NodeAnswer[Answer]]:
    """Join a cluster, call a function on each of its nodes with GPUs in parallel, and leave it.

    Without any node with a GPU, every node is asked.

    Args:
        address: Address of the cluster.
        function: A function of an importable module; it runs in a process of the node.
        question: Its argument.
        timeout_s: Longest wait for the answers, s.

    Raises:
        StartError: No cluster answers at the address.
        UsageError: The cluster requires another token.
    """
    connect(address)
    try:
        task: Any = ray.remote(function)
        alive = [node for node in ray.nodes() if node["Alive"]]
        asked = [node for node in alive if node["Resources"].get("GPU")] or alive
        calls = [
            task.options(num_cpus=0, scheduling_strategy=on_node(node["NodeID"])).remote(question)
            for node in asked
        ]
        ray.wait(calls, num_returns=len(calls), timeout=timeout_s)
        return [
            _answer(node["NodeManagerAddress"], call, timeout_s)
            for node, call in zip(asked, calls, strict=True)
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
