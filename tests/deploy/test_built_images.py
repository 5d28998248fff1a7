"""Images are built and started without Docker, and one that breaks the rules is found."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
from deploy.check.built_images import (
    LABEL,
    LABELS,
    Trial,
    cache_folder,
    config_problems,
    try_agent,
)
from deploy.check.image_store import (
    PYTHON,
    ImageConfig,
    ImageError,
    ImageStore,
    debian_root,
    missing_programs,
    storage_driver,
)
from deploy.check.running_image import Launch, output_of
from deploy.images.context import IMAGES, Context, ContextError, make_context

GOOD = ImageConfig(
    user="65532:65532",
    environment={},
    entrypoint=("/opt/steppe/bin/steppe",),
    arguments=(),
    labels={f"{LABEL}{name}": "some@sha256:0" for name in LABELS},
    folder="/",
)


def test_an_image_that_keeps_the_rules_has_no_problem() -> None:
    assert list(config_problems("steppe", GOOD)) == []
    assert list(config_problems("steppe-agent", replace(GOOD, user="0:0"))) == []


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (replace(GOOD, user=""), "steppe runs as root, not as 65532:65532"),
        (replace(GOOD, user="0:0"), "steppe runs as 0:0, not as 65532:65532"),
        (
            replace(GOOD, labels={n: v for n, v in GOOD.labels.items() if "licenses" not in n}),
            "steppe has no label org.opencontainers.image.licenses",
        ),
        (
            replace(GOOD, labels={**GOOD.labels, f"{LABEL}base.name": "python:3.12-slim"}),
            "steppe does not say on which base it was built, by digest",
        ),
        (replace(GOOD, entrypoint=()), "steppe has no entrypoint"),
    ],
)
def test_an_image_that_breaks_a_rule_is_found(wrong: ImageConfig, problem: str) -> None:
    assert list(config_problems("steppe", wrong)) == [problem]


def test_what_is_not_installed_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "buildah is not installed: apt-get install buildah" in missing_programs()


def may_make_namespaces() -> bool:
    command = ["unshare", "--mount", "--pid", "--fork", "true"]
    return os.geteuid() == 0 and not missing_programs() and subprocess.call(command) == 0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStore]:
    if missing := missing_programs():
        pytest.skip("; ".join(missing))
    if not may_make_namespaces():
        pytest.skip("needs root and namespaces")
    folder = tmp_path_factory.mktemp("images")
    yield ImageStore(folder, storage_driver(folder))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def base(store: ImageStore) -> str:
    try:
        return store.base(debian_root(cache_folder() / "root.tar"))
    except ImageError as error:
        pytest.skip(f"no Debian root: {error}")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("cc") is None, reason="the emulator needs a C compiler")
def test_the_agent_of_an_image_undoes_its_limits_however_it_ends(
    store: ImageStore, base: str, tmp_path: Path
) -> None:
    try:
        context = make_context("steppe-agent", PYTHON, tmp_path, cache_folder() / "wheels")
    except ContextError as error:
        pytest.skip(f"no wheels: {error}")
    image = store.build(context, base)
    config = store.config(image)
    assert list(config_problems("steppe-agent", config)) == []
    for end in (SIGTERM, SIGKILL):
        folder = tmp_path / end.name
        folder.mkdir()
        with store.mounted(image) as root:
            try_agent(Trial(root, config, folder), end)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_image_of_root_without_labels_is_found(
    store: ImageStore, base: str, tmp_path: Path
) -> None:
    (tmp_path / "Containerfile").write_text(f'FROM {base}\nENTRYPOINT ["/usr/bin/python3"]\n')
    image = store.named_by_digest(tmp_path, "localhost/planted")
    config = store.config(image)
    found = list(config_problems("steppe", config))
    assert found[0] == "steppe runs as root, not as 65532:65532"
    assert len(found) == 1 + len(LABELS)
    write = "import os; print(os.getuid(), flush=True); open('/file', 'w')"
    with store.mounted(image) as root:
        launch = Launch(root, replace(config, user="65532"), arguments=["-c", write])
        with pytest.raises(ImageError, match="Read-only file system: '/file'"):
            output_of(launch, store.folder / "log")
    assert (store.folder / "log").read_text().splitlines()[0] == "65532"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_base_without_a_digest_is_refused(store: ImageStore, base: str, tmp_path: Path) -> None:
    name = base.partition("@")[0]
    (tmp_path / "wheels").mkdir()
    shutil.copy(IMAGES / "steppe" / "Containerfile", tmp_path)
    with pytest.raises(ImageError, match=f"asked for an image by digest, found {name}"):
        store.build(Context("steppe", tmp_path, "0", "unknown"), name)
