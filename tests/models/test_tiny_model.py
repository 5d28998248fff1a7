from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from steppe.models.tiny_model import write_tiny_model

tokenizers = pytest.importorskip("tokenizers")

GENERATE = """
import json, sys
from vllm import LLM, SamplingParams
from steppe.engine.cpu_amx import allow_amx
allow_amx()
llm = LLM(sys.argv[1], enforce_eager=True, max_model_len=256, max_num_seqs=4,
          kv_cache_memory_bytes=64 << 20)
sampling = SamplingParams(temperature=0, max_tokens=32, ignore_eos=True)
(result,) = llm.chat([{"role": "user", "content": "Where does the wind come from?"}], sampling)
print(json.dumps({"ids": list(result.outputs[0].token_ids)}))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_gives_the_same_files_and_another_seed_other_weights(tmp_path: Path) -> None:
    first = contents(write_tiny_model(tmp_path / "a", 0))
    assert contents(write_tiny_model(tmp_path / "b", 0)) == first
    other = contents(write_tiny_model(tmp_path / "c", 1))
    assert {name for name in first if other[name] != first[name]} == {"model.safetensors"}


def test_every_token_of_the_tokenizer_has_an_embedding(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, 0)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    assert tokenizer.get_vocab_size() == config["vocab_size"] == 512
    assert tokenizer.token_to_id("<|im_end|>") == config["eos_token_id"]


def test_text_survives_the_tokenizer(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, 0)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "Wind 7 m/s, naïve 漢字, and\n\ta tab"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_vllm_loads_it_and_generates(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    folder = write_tiny_model(tmp_path, 0)
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    command = [sys.executable, "-c", GENERATE, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    assert len(json.loads(run.stdout.splitlines()[-1])["ids"]) == 32
