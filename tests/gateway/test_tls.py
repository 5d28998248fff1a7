from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import aiohttp
import pytest
from tests.gateway.site import ONE_MODEL

from steppe.errors import UsageError
from steppe.gateway.server import Gateway, GatewaySettings
from steppe.gateway.tls import tls_context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    named = ["-nodes", "-days", "2", "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [*made, *named, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def gateway(certificate: Path | None, key: Path | None) -> Gateway:
    return Gateway(
        GatewaySettings(
            "127.0.0.1", 0, 1, 1.0, (ONE_MODEL,), tls_certificate=certificate, tls_key=key
        )
    )


async def test_with_a_certificate_clients_use_https(files: tuple[Path, Path]) -> None:
    opened = gateway(*files)
    url = await opened.start()
    assert url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile=str(files[0]))
    async with aiohttp.ClientSession() as client:
        async with client.get(url + "/health/live", ssl=trust) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await client.get(url.replace("https", "http") + "/health/live")
    await opened.stop()


async def test_old_versions_of_tls_are_refused(files: tuple[Path, Path]) -> None:
    context = tls_context(*files)
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls_context(None, None) is None


def test_a_file_that_cannot_be_used_is_one_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = files
    missing, text, locked = tmp_path / "none.pem", tmp_path / "text.pem", tmp_path / "locked.pem"
    text.write_text("not a certificate")
    encrypt = ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", str(key)]
    subprocess.run([*encrypt, "-out", str(locked)], check=True, capture_output=True)
    for pair, says in (
        ((missing, key), f"gateway.tls_certificate: {missing}: No such file"),
        ((certificate, missing), f"gateway.tls_key: {missing}: No such file"),
        ((text, key), "asked for a certificate in PEM"),
        ((certificate, text), "asked for a certificate in PEM"),
        ((certificate, locked), "key without a password"),
    ):
        with pytest.raises(UsageError) as caught:
            tls_context(*pair)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
