from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "aiohttp", "fastapi", "matplotlib", "pvlib", "pyarrow", "pynvml", "ray", "torch",
    "transformers", "triton", "uvicorn", "vllm",
}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in run.stdout.split()}


def test_importing_steppe_loads_no_heavy_library() -> None:
    assert modules_after("import steppe, steppe_kernels, steppe.config") & HEAVY == set()


def test_deciding_loads_no_heavy_library() -> None:
    decisions = "import steppe.control.loop, steppe.frontier.file"
    assert modules_after(decisions) & HEAVY == set()
