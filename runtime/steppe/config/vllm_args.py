"""Arguments of vLLM that Steppe sets itself, and the keys to use in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

_ONE_ENGINE = "`fleet.replicas` for more engines; each replica is one"
_OWN_DOOR = "`gateway`; a replica listens on a free port of its node"

OWNED: Mapping[str, str] = MappingProxyType(
    {
        "model": "`model.name`",
        "served_model_name": "`model.served_name`",
        "max_model_len": "`model.max_model_len`",
        "max_num_seqs": "`engine.max_batch_limit`",
        "max_num_active_seqs": "`engine.max_batch_limit`",
        "max_num_batched_tokens": "`engine.max_tokens_per_step`",
        "max_num_scheduled_tokens": "`engine.max_tokens_per_step`",
        "kv_cache_memory_bytes": "`engine.kv_cache_bytes`",
        "kv_offloading_size": "`engine.kv_host_bytes`",
        "tensor_parallel_size": "`fleet.gpus_per_replica`",
        "pipeline_parallel_size": "`fleet.gpus_per_replica`: a model is split by tensors alone",
        "data_parallel_size": _ONE_ENGINE,
        "data_parallel_rank": _ONE_ENGINE,
        "data_parallel_size_local": _ONE_ENGINE,
        "api_server_count": _ONE_ENGINE,
        "nnodes": _ONE_ENGINE,
        "headless": _ONE_ENGINE,
        "scheduling_policy": "none: it is `priority`, so that rows of a batch come last",
        "scheduler_cls": "none: the batch limit works through Steppe's own scheduler",
        "host": _OWN_DOOR,
        "port": _OWN_DOOR,
        "uds": _OWN_DOOR,
        "root_path": _OWN_DOOR,
        "api_key": "none: replicas answer their own run only",
        "ssl_keyfile": _OWN_DOOR,
        "ssl_certfile": _OWN_DOOR,
        "config": "`engine.args` for each of its arguments",
    }
)
"""The argument, and what to use in its place."""


_SHORTEST = 8
"""Letters of a name that may stand for the whole; shorter ones are names of their own."""


def owned_argument(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first argument that Steppe sets itself and the key in its place; None if none is.

    vLLM takes `-` for `_`, and the first letters of a name for the whole.
    """
    for name in names:
        plain = name.strip("-").replace("-", "_")
        for owned, instead in OWNED.items():
            if plain == owned or (len(plain) > _SHORTEST and owned.startswith(plain)):
                return name, instead
    return None
