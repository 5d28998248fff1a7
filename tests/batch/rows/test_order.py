from __future__ import annotations

import itertools
import random

from steppe.batch.rows.order import run_order


def chat(system: str, text: str) -> dict[str, object]:
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": text}]}


def test_rows_with_a_common_prefix_run_one_after_another() -> None:
    rng = random.Random(1)
    systems = [f"{name} " * 200 for name in "abcde"]
    bodies = [chat(system, f"{rng.random()}" * 100) for system in systems for _ in range(20)]
    rng.shuffle(bodies)
    ordered = sorted(bodies, key=run_order)
    names = [str(body["messages"])[:60] for body in ordered]
    changes = sum(first != second for first, second in itertools.pairwise(names))
    assert changes == len(systems) - 1


def test_a_longer_prompt_follows_its_own_beginning() -> None:
    text = "x" * 1000
    short, long = run_order({"prompt": text}), run_order({"prompt": text + "y" * 1000})
    assert long.startswith(short)
    assert len(short) == 4 * 4  # of 64, 128, 256 and 512 bytes


def test_tools_and_token_ids_are_part_of_the_prefix() -> None:
    tool = {"type": "function", "function": {"name": "f" * 80}}
    assert run_order({**chat("s", "t"), "tools": [tool]}) != run_order(chat("s", "t"))
    assert run_order({"prompt": list(range(100))}) != ""
    assert run_order({"input": ["a", "b"]}) == ""
