"""Compile every kernel for GPUs that are not here, and print a JSON line for each.

A program of its own: in the tests' process the kernels are interpreted. Pointers and sizes are
given as multiples of 16, as the launcher finds them to be in the probes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from steppe_kernels import matmul, paged_decode, spin, stream_copy

SHARED_BYTES = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10}
"""Of A100, L4 and H100: CUDA programming guide, technical specifications per capability."""


def compile_for(
    capability: int, kernel: Any, types: str, constants: dict[str, int], **how: int
) -> None:
    names, kinds = kernel.arg_names, types.split()
    signature = dict(zip(names, [*kinds, *["constexpr"] * len(constants)], strict=True))
    aligned = {(at,): [["tt.divisibility", 16]] for at, kind in enumerate(kinds) if kind != "fp32"}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=aligned)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=how)
    line = {
        "kernel": kernel.__name__,
        "capability": capability,
        "types": types,
        "shared_bytes": built.metadata.shared,
        "limit_bytes": SHARED_BYTES[capability],
        "wgmma": "wgmma" in built.asm["ptx"],
        "spills": ".local" in built.asm["ptx"],
        "code_bytes": len(built.asm["cubin"]),
    }
    sys.stdout.write(json.dumps({**line, **how}) + "\n")


def compile_matmul(capability: int, dtype: str, itemsize: int, rows: int) -> None:
    tile = matmul.tile_for(rows, itemsize, SHARED_BYTES[capability])
    blocks = {"block_m": tile.m, "block_n": tile.n, "block_k": tile.k, "group_rows": 8, "raised": 0}
    types = f"*{dtype} *{dtype} *bf16 i32 i32 i32"
    how = {"num_warps": tile.warps, "num_stages": tile.stages}
    compile_for(capability, matmul._matmul, types, blocks, **how)


def main() -> None:
    decode = {
        "group": 4,
        "size": 128,
        "block_rows": 16,
        "block_size": 128,
        "block_tokens": 64,
        "raised": 0,
    }
    pages = "*bf16 *bf16 *bf16 *i32 *i32 *bf16 i32 i32 fp32"
    for capability in SHARED_BYTES:
        compile_for(capability, stream_copy._copy, "*i32 *i32 i32", {"block": 8192}, num_warps=8)
        compile_for(capability, spin._spin, "*i32 *i32 i32 i32", {"block": 128}, num_warps=4)
        compile_for(capability, paged_decode._decode, pages, decode, num_warps=4, num_stages=3)
        for rows in (8, 64, 4096):
            compile_matmul(capability, "bf16", 2, rows)
            if capability >= 89:
                compile_matmul(capability, "fp8e4nv", 1, rows)


if __name__ == "__main__":
    main()
