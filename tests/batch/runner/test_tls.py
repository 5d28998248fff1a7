from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from steppe.batch.runner.sender import open_session
from steppe.batch.runner.settings import RunnerSettings
from steppe.errors import UsageError


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    named = [
        "-nodes",
        "-days",
        "2",
        "-subj",
        f"/CN={name}",
        "-addext",
        f"subjectAltName=DNS:{name}",
    ]
    command = [*made, *named, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


async def test_a_gateway_is_trusted_by_its_own_certificate_only(tmp_path: Path) -> None:
    files, others = make_certificate(tmp_path, "here"), make_certificate(tmp_path, "there")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)

    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
    async with open_session(RunnerSettings(url, certificate=files[0])) as session:
        assert (await session.get(url)).status == 200
    for certificate in (others[0], None):
        async with open_session(RunnerSettings(url, certificate=certificate)) as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url)
    await runner.cleanup()


async def test_a_file_that_is_no_certificate_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("not a certificate")
    for name in ("none.pem", "text.pem"):
        with pytest.raises(UsageError, match="asked for a certificate in PEM"):
            open_session(RunnerSettings("https://a", certificate=tmp_path / name))
