"""Do the usual clients of OpenAI's API work with keys, unmodified, and does no key reach a log?

A gateway with one tenant and one key stands before a synthetic engine. Each client asks with the
key, and then with a wrong one: it must get answers with the right numbers of tokens, and then its
own error for a 401. All the while the gateway writes its access log, and everything that gateway
and engine print goes to a file; neither key may be in either of them.

The clients need an environment of their own, because they are no dependencies of Steppe:

    python -m venv clients && clients/bin/pip install openai litellm langchain-openai
    python bench/clients.py --python clients/bin/python

vLLM's benchmark client runs in the environment of this benchmark, which needs an engine (extra
`cpu` or `cuda`). A client that is not installed is left out of the result and said to be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from client_calls import CLIENTS, PROMPTS, TOKENS
from steppe.engine.control_block import ControlBlock
from steppe.engine.seam import Seam
from steppe.engine.synthetic import SyntheticSettings, start_synthetic
from steppe.gateway.access import AccessSettings
from steppe.gateway.server import AccessLogSettings, Gateway, GatewayModel, GatewaySettings, Route
from steppe.measure.provenance import source_commit
from steppe.models.tiny_model import write_tiny_model
from steppe.tenants.key import NewKey, StoredKey, make_key
from steppe.tenants.tenant import KnownTenants, Tenant
from targets import at_least, at_most

MODEL = "served"
MODULES = {"openai": "openai", "litellm": "litellm", "langchain-openai": "langchain_openai"}
LONGEST_S = 300.0
"""Longest time of one client, s: vLLM takes a minute to be imported on a busy machine."""


@dataclass(frozen=True, slots=True)
class Site:
    """The gateway and what it writes.

    Attributes:
        url: Its address.
        key: The key of its tenant.
        folder: Where its logs are.
    """

    url: str
    key: NewKey
    folder: Path

    def leaks(self, *texts: str) -> int:
        """Return in how many of the logs one of the texts stands."""
        logs = [path.read_text(errors="replace") for path in self.folder.glob("*.log")]
        return sum(any(text in log for text in texts) for log in logs)

    @property
    def log_lines(self) -> int:
        """Number of lines of the access log."""
        return len((self.folder / "access.log").read_text().splitlines())


async def serve(stored: StoredKey, folder: Path, ready: Connection) -> None:
    """Serve a gateway before a synthetic engine, and say its address."""
    block = ControlBlock.create(folder / "block")
    settings = SyntheticSettings(MODEL, max_batch_limit=64, weights_s=0.002)
    engine = await start_synthetic(settings, Seam(str(block.path)), "127.0.0.1")
    tenants = KnownTenants((Tenant("team"),), (stored,))
    gateway = Gateway(
        GatewaySettings(
            "127.0.0.1",
            0,
            1000,
            60.0,
            (GatewayModel(MODEL, 2.0),),
            access=AccessSettings(tenants),
            access_log=AccessLogSettings("json", folder / "access.log"),
        )
    )
    url = await gateway.start()
    gateway.set_routes((Route("r0", f"http://127.0.0.1:{engine.port}", 64),), None)
    ready.send(url)
    await asyncio.Event().wait()


def run(stored: StoredKey, folder: Path, ready: Connection) -> None:
    """Serve in this process, whose output goes to a file."""
    with (folder / "output.log").open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(stored, folder, ready))


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Start gateway and engine in a process of their own."""
    context, key = multiprocessing.get_context("spawn"), make_key("team", 0.0)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        ours, theirs = context.Pipe()
        process = context.Process(target=run, args=(key.stored, folder, theirs), daemon=True)
        process.start()
        try:
            yield Site(ours.recv(), key, folder)
        finally:
            process.terminate()
            process.join()


def is_installed(python: str, client: str) -> bool:
    """Return whether an environment has a client."""
    module = MODULES.get(client, client)
    asked = f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({module!r}))"
    return subprocess.run([python, "-c", asked], check=False).returncode == 0


def call(python: str, client: str, url: str, key: str, tokenizer: Path) -> dict[str, Any]:
    """Let a client ask with a key; return what came of it."""
    script = Path(__file__).with_name("client_calls.py")
    environment = os.environ | {"OPENAI_API_KEY": key, "CLIENT_TOKENIZER": str(tokenizer)}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, str(script), client, url, MODEL],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    lines = done.stdout.splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise SystemExit(f"{client}: no result; its errors end with\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def works(client: str, found: dict[str, Any]) -> bool:
    """Return whether a client got its answers, with the right numbers of tokens."""
    if client == "vllm":
        wanted = (PROMPTS, 0, PROMPTS * TOKENS)
        return (found.get("completed"), found.get("failed"), found.get("output_tokens")) == wanted
    counts = (found.get("whole_tokens"), found.get("stream_tokens"))
    return counts == (TOKENS, TOKENS) and bool(found["stream_text"])


def is_refused(client: str, found: dict[str, Any]) -> bool:
    """Return whether a client with a wrong key saw a 401 and got no answer."""
    if client == "vllm":
        return not found.get("completed") and "Unauthorized" in str(found)
    return bool(found.get("status") == 401 and "AuthenticationError" in found["error"])


def measure(python: str) -> dict[str, Any]:
    """Let each client ask with the key and with a wrong one."""
    wrong, rows, missing = make_key("team", 0.0), list[dict[str, Any]](), list[str]()
    with site() as one, tempfile.TemporaryDirectory() as folder:
        tokenizer = write_tiny_model(Path(folder) / "tokenizer", seed=0)
        for client in CLIENTS:
            where = sys.executable if client == "vllm" else python
            if not is_installed(where, client):
                missing.append(client)
                continue
            found = call(where, client, one.url, one.key.text, tokenizer)
            refused = call(where, client, one.url, wrong.text, tokenizer)
            rows.append(
                {
                    "client": client,
                    "works": works(client, found),
                    "refused": is_refused(client, refused),
                    "found": found,
                    "with_a_wrong_key": refused,
                }
            )
            print(f"{client}: {found}\n    with a wrong key: {refused}", flush=True)
        leaks = one.leaks(one.key.text, wrong.text, *secrets_of(one.key, wrong))
        return {
            "clients": rows,
            "missing": missing,
            "logs_with_a_key": leaks,
            "access_log_lines": one.log_lines,
        }


def secrets_of(*keys: NewKey) -> list[str]:
    """Return the secret parts of keys."""
    return [key.text.split("-", 3)[3] for key in keys]


def document(results: dict[str, Any]) -> dict[str, Any]:
    """Return the benchmark's last line."""
    rows = results["clients"]
    return {
        "bench": "clients",
        "commit": source_commit(),
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "gpu": None},
        "versions": {row["client"]: row["found"].get("version") for row in rows},
        "results": results,
        "targets": [
            at_least("clients that work with a key", sum(r["works"] for r in rows), "clients", 4),
            at_least(
                "clients that get a 401 with a wrong key",
                sum(r["refused"] for r in rows),
                "clients",
                4,
            ),
            at_most("logs that contain a key", results["logs_with_a_key"], "logs", 0),
        ],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--python", default=sys.executable, help="Python that has the clients")
    print(json.dumps(document(measure(parser.parse_args().python))))
