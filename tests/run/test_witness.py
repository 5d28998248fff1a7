"""`steppe ledger witness` listens, signs, and ends at a signal."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.ledger.log.test_witness import KEY, WITNESS, leaves_of, request_of

from steppe.errors import UsageError
from steppe.ledger.log.witness import AddCheckpoint, check_cosignatures
from steppe.ledger.signing import PrivateKey
from steppe.run.witness import WitnessPlan, logs_of, serve_witness


def start(folder: Path) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """Start a witness with the key `key` in a folder; return what it says."""
    command = [sys.executable, "-m", "steppe", "ledger", "witness", str(folder / "key")]
    options = ["--log", KEY.public.text, "--state", str(folder / "state"), "--port", "0"]
    process = subprocess.Popen(
        [*command, *options, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def ask(url: str, request: AddCheckpoint) -> str:
    place = f"{url}/add-checkpoint"
    with urllib.request.urlopen(place, request.text.encode(), timeout=30) as answer:
        line: bytes = answer.read()
    return line.decode()


def test_a_witness_signs_until_it_is_ended(tmp_path: Path) -> None:
    WITNESS.write(tmp_path / "key")
    process, said = start(tmp_path)
    try:
        assert said["key"] == WITNESS.public.text
        request = request_of(leaves_of(3), 0)
        line = ask(said["url"], request)
        assert check_cosignatures(request.note + line, [WITNESS.public], 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        end(process)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_witness_that_is_killed_signs_no_other_history(tmp_path: Path) -> None:
    WITNESS.write(tmp_path / "key")
    rng, signed = random.Random(7), 0
    for _ in range(6):
        process, said = start(tmp_path)
        killer = threading.Timer(rng.random() * 0.2, process.kill)
        try:
            killer.start()
            signed = grow(said["url"], signed)
        finally:
            killer.join()
            end(process)
    process, said = start(tmp_path)
    try:
        signed = grow(said["url"], signed, most=1)
        fork = request_of(leaves_of(signed, seed=1), signed)
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(said["url"], fork)
        with refused.value as answer:
            assert "found a fork" in answer.read().decode()
    finally:
        end(process)


def grow(url: str, signed: int, most: int = 10_000) -> int:
    """Have a log that grows signed until the witness is gone; return the last size that it knew.

    A head may be on the disk of a witness that died before it answered: then the witness says so.
    """
    for _ in range(most):
        try:
            ask(url, request_of(leaves_of(signed + 1), signed))
        except urllib.error.HTTPError as error:
            known = size_of(error)
            assert known == signed + 1, "what was acknowledged is never forgotten"
        except (OSError, http.client.HTTPException):
            break
        signed += 1
    return signed


def size_of(error: urllib.error.HTTPError) -> int:
    """Return the size that a witness knows instead of that of the request."""
    with error:
        assert error.headers["content-type"] == "text/x.tlog.size"
        return int(error.read())


def test_several_keys_of_a_name_are_those_of_one_log() -> None:
    new, other = PrivateKey(KEY.name, bytes(32)), PrivateKey("other", bytes(32))
    found = logs_of([KEY.public, other.public, new.public])
    assert found == {KEY.name: (KEY.public, new.public), "other": (other.public,)}


def test_the_key_of_a_witness_is_no_log(tmp_path: Path) -> None:
    WITNESS.write(tmp_path / "key")
    plan = WitnessPlan(tmp_path / "key", [WITNESS.public.text], tmp_path / "state", "127.0.0.1", 0)
    with pytest.raises(UsageError, match="asked for the key of a log, found a witness's"):
        serve_witness(plan, lambda _url, _key: None)
