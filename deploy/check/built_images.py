"""Build all images on a Debian root, start and use them: `python -m deploy.check.built_images`.

It needs root, Debian's packages and a pip that finds wheels; no Docker, no registry of images and
no GPU. The GPUs are emulated. The base of `steppe-vllm` cannot be had here: its Containerfile is
built on a stand-in that has a package of the name vllm, and nothing of CUDA.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, Signals

from deploy.check.image_store import (
    PYTHON,
    ImageConfig,
    ImageError,
    ImageStore,
    debian_root,
    missing_programs,
    storage_driver,
)
from deploy.check.images import ROOT_USERS, SCRATCH, USER
from deploy.check.running_image import Container, Launch, output_of, running
from deploy.images.context import NAMES, Context, ContextError, make_context

from steppe.agent.client import AgentClient
from steppe.emulator.build import build_library
from steppe.emulator.environment import emulated_environment
from steppe.emulator.library import Emulator
from steppe.errors import AgentError

LABELS = ("title", "description", "version", "revision", "licenses", "base.name")
LABEL = "org.opencontainers.image."
LEASE_S = 30.0
CLOCK_MHZ = 900
NO_CAPABILITY = "0" * 16
SYS_ADMIN = f"{1 << 21:016x}"
RUN = """
model: {{name: none, served_name: synthetic}}
engine: {{kind: synthetic, max_batch_limit: 8}}
fleet: {{replicas: 1}}
device: {{kind: emulated, profile: l4, count: 1}}
power:
  supply: [{{kind: constant, watts: 100}}]
  fallback_w: 60
frontier: {{refine: false}}
gateway: {{port: {port}}}
"""
"""A run without a model: what is checked is the image."""


def config_problems(name: str, config: ImageConfig) -> Iterator[str]:
    """Yield what is wrong with what an image says about itself."""
    user = ROOT_USERS.get(name, USER)
    if config.user != user:
        yield f"{name} runs as {config.user or 'root'}, not as {user}"
    for label in LABELS:
        if not config.labels.get(f"{LABEL}{label}", "").strip():
            yield f"{name} has no label {LABEL}{label}"
    if "@sha256:" not in config.labels.get(f"{LABEL}base.name", "@sha256:"):
        yield f"{name} does not say on which base it was built, by digest"
    if not config.entrypoint:
        yield f"{name} has no entrypoint"


@dataclass(frozen=True, slots=True)
class Trial:
    """An image that is tried out.

    Attributes:
        root: The root of its container.
        config: What it says about its start.
        folder: A folder of the host for what it writes, and for its log.
    """

    root: Path
    config: ImageConfig
    folder: Path

    @property
    def log(self) -> Path:
        """What the container prints."""
        return self.folder / "log"

    def writable(self, name: str, user: str = USER) -> Path:
        """Make a folder that a user of the container may write."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        os.chown(folder, *map(int, user.split(":")))
        return folder


def try_version(trial: Trial) -> None:
    """Ask an image for its version, without a folder that it may write."""
    said = output_of(Launch(trial.root, trial.config, arguments=["--version"]), trial.log)
    version = trial.config.labels[f"{LABEL}version"]
    if f"steppe {version}\n" not in said:
        raise ImageError(f"asked for the version {version}, found {said}")


def try_agent(trial: Trial, end: Signals) -> None:
    """Let the agent limit a GPU, end it, and see that the limit is undone.

    After SIGKILL the next container does that, from the lease file on the host.
    """
    run = trial.writable("run", "0:0")
    library = Path(shutil.copy(build_library(), run))
    gpus = {
        **emulated_environment("l4", 1, Path("/run/steppe/gpus")),
        "LD_LIBRARY_PATH": "/run/steppe",
    }
    folders = {"/run/steppe": run}
    launch = Launch(trial.root, trial.config, folders, gpus, capabilities=("sys_admin",))
    with running(launch, trial.log) as container:
        container.wait_until((run / "agent.sock").is_socket, "the agent listened")
        _check_process(container, "0", SYS_ADMIN)
        emulator = Emulator.attach(library, run / "gpus")
        client = AgentClient(run / "agent.sock", LEASE_S, "images-test")
        client.set_clock_limit(client.status().gpus[0].uuid, CLOCK_MHZ)
        container.wait_until(lambda: _limit_mhz(emulator) <= CLOCK_MHZ, "the GPU was limited")
        container.stop(end)
        with suppress(AgentError):
            client.release()
    if end == SIGKILL:
        (run / "agent.sock").unlink()
        with running(launch, trial.log) as container:
            container.wait_until((run / "agent.sock").is_socket, "the next agent listened")
            container.stop()
    if (limit_mhz := _limit_mhz(emulator)) < math.inf:
        raise ImageError(f"a limit of {limit_mhz:.0f} MHz has outlived the agent")


def try_run(trial: Trial) -> None:
    """Serve with an image, ask it, and stop it: its root is read-only, and it has no capability."""
    home, scratch = trial.writable("home"), trial.writable("tmp")
    _give_driver(home)
    port = _free_port()
    (home / "run.yaml").write_text(RUN.format(port=port))
    folders = {SCRATCH["HOME"]: home, SCRATCH["TMPDIR"]: scratch}
    command = ["serve", f"{SCRATCH['HOME']}/run.yaml", "--record", f"{SCRATCH['HOME']}/run"]
    launch = Launch(trial.root, trial.config, folders, arguments=command)
    url = f"http://127.0.0.1:{port}"
    with running(launch, trial.log) as container:
        container.wait_until(lambda: _is_ok(f"{url}/health/live"), "the gateway was alive")
        container.wait_until(lambda: _is_ok(f"{url}/health/ready"), "the gateway was ready")
        _check_process(container, USER.partition(":")[0], NO_CAPABILITY)
        body = {"model": "synthetic", "prompt": "wind and sun", "max_tokens": 4}
        answer = _post(f"{url}/v1/completions", body)
        if answer["usage"]["completion_tokens"] != 4:
            raise ImageError(f"asked for 4 tokens, found {answer['usage']}")
        container.stop()
        if container.process.returncode not in (0, 143):
            raise ImageError(f"a stop ended with {container.process.returncode}: {container.tail}")
    summary = json.loads((home / "run" / "summary.json").read_text())
    if (summary["output_tokens"], summary["energy_source"]) != (4, "emulated"):
        raise ImageError(f"asked for a record of 4 tokens, found {summary['output_tokens']}")


TRIALS: Mapping[str, tuple[Callable[[Trial], None], ...]] = {
    "steppe": (try_version, try_run),
    "steppe-agent": (
        lambda trial: try_agent(trial, Signals.SIGTERM),
        lambda trial: try_agent(trial, SIGKILL),
    ),
    "steppe-vllm": (try_version,),
}
"""What each image has to be able to do."""


def try_image(store: ImageStore, context: Context, base: str) -> list[str]:
    """Build an image and try it out; return what is wrong with it."""
    image = store.build(context, base)
    config = store.config(image)
    problems = list(config_problems(context.name, config))
    for trial in () if problems else TRIALS[context.name]:
        with store.mounted(image) as root, tempfile.TemporaryDirectory(dir=store.folder) as folder:
            try:
                trial(Trial(root, config, Path(folder)))
            except ImageError as error:
                problems.append(f"{context.name}: {error}")
    return problems


def build_and_try(store: ImageStore, name: str, base: str) -> list[str]:
    """Make the context of an image, build it, and try it out; return what is wrong with it."""
    kept = cache_folder() / "wheels"
    context = make_context(name, PYTHON, store.folder / "contexts", kept)
    on = stand_in(store, base) if name == "steppe-vllm" else base
    return try_image(store, context, on)


def stand_in(store: ImageStore, base: str) -> str:
    """Return a base for `steppe-vllm`: a Debian root with a package that is called vllm."""
    folder = store.folder / "stand-in"
    package = folder / "vllm" / "vllm-0.32.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
    packages = f"/usr/local/lib/python{PYTHON}/dist-packages/"
    (folder / "Containerfile").write_text(f"FROM {base}\nCOPY vllm/ {packages}\n")
    return store.named_by_digest(folder, "localhost/stand-in")


def _limit_mhz(emulator: Emulator) -> float:
    lock = emulator.snapshot(0).clock_lock_mhz
    return math.inf if lock is None else lock[1]


def _give_driver(home: Path) -> None:
    """Put the emulated driver where the image would compile it, which has no compiler."""
    library = build_library()
    inside = home / ".cache" / "steppe" / "emulator" / library.parent.name
    inside.mkdir(parents=True)
    shutil.copy(library, inside)


def _check_process(container: Container, user: str, capabilities: str) -> None:
    status = container.status()
    found = (status["Uid"].split()[0], status["CapEff"], status["NoNewPrivs"])
    if found != (user, capabilities, "1"):
        raise ImageError(f"asked for user {user} and capabilities {capabilities}, found {found}")


def _is_ok(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5.0) as answer:
        return bool(answer.status == 200)
    return False


def _post(url: str, body: Mapping[str, object]) -> dict[str, dict[str, int]]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60.0) as answer:
        found: dict[str, dict[str, int]] = json.load(answer)
    return found


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def cache_folder() -> Path:
    """Return where the Debian root and wheels are kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "steppe" / "images"


def main(arguments: Sequence[str] = ()) -> int:
    """Build and try images; return 1 if one does not work, and 2 if that cannot be said here."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m deploy.check.built_images"
    )
    parser.add_argument("name", nargs="*", help="all by default")
    names = parser.parse_args(arguments).name or NAMES
    missing = missing_programs()
    if os.geteuid() != 0:
        missing.append("asked to make roots and namespaces, found no root privilege")
    if missing:
        sys.stderr.write("\n".join(missing) + "\n")
        return 2
    # So that its images and mounts end with it, as they do at the end and after SIGINT.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="steppe-images-") as folder:
        store = ImageStore(Path(folder), storage_driver(Path(folder)))
        try:
            base = store.base(debian_root(cache_folder() / "root.tar"))
            for name in names:
                began_s = time.monotonic()
                found = build_and_try(store, name, base)
                problems += found
                took_s = time.monotonic() - began_s
                how = "works" if not found else "does not work"
                sys.stdout.write(f"{name}: {how} ({took_s:.0f} s)\n")
                sys.stdout.flush()
        except (ContextError, ImageError) as error:
            problems.append(str(error))
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
