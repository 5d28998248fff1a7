"""`steppe ledger witness` listens, signs, and ends at a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.ledger.log.test_witness import KEY, WITNESS, leaves_of, request_of

from steppe.errors import UsageError
from steppe.ledger.log.witness import check_cosignatures
from steppe.ledger.signing import PrivateKey
from steppe.run.witness import WitnessPlan, logs_of, serve_witness


def test_a_witness_signs_until_it_is_ended(tmp_path: Path) -> None:
    WITNESS.write(tmp_path / "key")
    command = [sys.executable, "-m", "steppe", "ledger", "witness", str(tmp_path / "key")]
    options = ["--log", KEY.public.text, "--state", str(tmp_path / "state"), "--port", "0"]
    process = subprocess.Popen(
        [*command, *options, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["key"] == WITNESS.public.text
        request = request_of(leaves_of(3), 0)
        url = f"{said['url']}/add-checkpoint"
        with urllib.request.urlopen(url, request.text.encode(), timeout=30) as answer:
            line = answer.read().decode()
        assert check_cosignatures(request.note + line, [WITNESS.public], 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_several_keys_of_a_name_are_those_of_one_log() -> None:
    new, other = PrivateKey(KEY.name, bytes(32)), PrivateKey("other", bytes(32))
    found = logs_of([KEY.public, other.public, new.public])
    assert found == {KEY.name: (KEY.public, new.public), "other": (other.public,)}


def test_the_key_of_a_witness_is_no_log(tmp_path: Path) -> None:
    WITNESS.write(tmp_path / "key")
    plan = WitnessPlan(tmp_path / "key", [WITNESS.public.text], tmp_path / "state", "127.0.0.1", 0)
    with pytest.raises(UsageError, match="asked for the key of a log, found a witness's"):
        serve_witness(plan, lambda _url, _key: None)
