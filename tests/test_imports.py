from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

HEAVY = {
    "aiohttp", "fastapi", "joserfc", "matplotlib", "paho", "pvlib", "pyarrow", "pynvml", "ray",
    "sqlalchemy", "torch", "transformers", "triton", "uvicorn", "vllm",
}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in run.stdout.split()}


def test_importing_steppe_loads_no_heavy_library() -> None:
    assert modules_after("import steppe, steppe_kernels, steppe.config") & HEAVY == set()


def test_the_control_loop_loads_no_heavy_library() -> None:
    decisions = "import steppe.control.loop, steppe.frontier.file"
    assert modules_after(decisions) & HEAVY == set()


def test_no_benchmark_imports_a_command() -> None:
    importing = [
        path.name
        for path in (Path(__file__).parents[1] / "bench").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("steppe.cli")
    ]
    assert importing == []
