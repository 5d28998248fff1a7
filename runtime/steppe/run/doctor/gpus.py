"""The driver and the GPUs: may they serve, and does anything else use or limit them?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from steppe.device.gpu import TOLERANCE_MHZ, LimitReason
from steppe.device.health import SLOWDOWNS, XidEvent
from steppe.device.nvml_driver import Driver
from steppe.run.doctor.finding import Finding, Level
from steppe.run.doctor.gpu_facts import GpuFacts
from steppe.run.doctor.software import Software

GROUP = "GPUs"
LEAST_DRIVER = {11: 450, 12: 525, 13: 580}
"""Oldest branch of the driver that runs programs of a major release of CUDA (NVIDIA, "CUDA
Compatibility", minor version compatibility)."""
BUSY = 0.5
"""From this utilisation on, a clock below the highest must have a reason."""
LEAST_ERROR = 0.1
"""Share by which counter and power may differ in a short window."""
NEEDS_GPU = (
    "a GPU machine needs an NVIDIA driver (580 or newer for CUDA 13, 525 for CUDA 12) that answers "
    "`nvidia-smi -L`, in a container started with its GPUs (--gpus all), and vLLM for CUDA "
    "(`make install EXTRAS=cuda`); without GPUs `steppe demo` and `steppe simulate` work"
)


def missing_driver(why: str) -> Finding:
    """Return the finding of a host on which no driver answers."""
    return Finding(GROUP, "driver", Level.FATAL, f"no NVIDIA driver answers ({why})", NEEDS_GPU)


def check_driver(driver: Driver, software: Software) -> Finding:
    """Return whether the driver runs the CUDA of the installed torch.

    The release that it says counts first, because NVIDIA's compatibility package can raise it.
    """
    cuda = "" if driver.cuda is None else f", CUDA {driver.cuda[0]}.{driver.cuda[1]}"
    text, needs = f"driver {driver.version}{cuda}", software.torch_cuda
    if needs is None or driver.version.endswith(".EMU"):
        return Finding(GROUP, "driver", Level.OK, text)
    release = f"{needs[0]}.{needs[1]}"
    least = LEAST_DRIVER.get(needs[0])
    if driver.cuda is not None:
        is_fit = driver.cuda[0] >= needs[0]
    else:
        is_fit = least is None or int(driver.version.split(".")[0]) >= least
    if is_fit:
        return Finding(GROUP, "driver", Level.OK, f"{text}; runs torch's CUDA {release}")
    older = "" if driver.cuda is None else f", or torch and vLLM for CUDA {driver.cuda[0]}"
    newer = f"driver {least} or newer" if least is not None else f"a driver for CUDA {needs[0]}"
    advice = f"install {newer}{older}"
    text = f"{text}, too old for torch's CUDA {release}"
    return Finding(GROUP, "driver", Level.FATAL, text, advice)


def check_gpus(gpus: Sequence[GpuFacts]) -> list[Finding]:
    """Return what is to be said about the GPUs of one host."""
    if not gpus:
        return [Finding(GROUP, "GPUs", Level.FATAL, "the driver reports no GPU", NEEDS_GPU)]
    checks = (_mig, _memory_errors, _xids, _slowdowns, _processes, _clocks, _limits, _persistence)
    return [_listed(gpus), *(finding for check in checks for finding in check(gpus))]


def _listed(gpus: Sequence[GpuFacts]) -> Finding:
    names = {gpu.name: 0 for gpu in gpus}
    for gpu in gpus:
        names[gpu.name] += 1
    text = ", ".join(f"{count} x {name}" for name, count in names.items())
    if len(names) == 1:
        return Finding(GROUP, "GPUs", Level.OK, text)
    advice = "each kind needs a frontier: frontier.files, or one kind (fleet.gpu_model)"
    return Finding(GROUP, "GPUs", Level.WARNING, text, advice)


def _mig(gpus: Sequence[GpuFacts]) -> list[Finding]:
    split = [gpu for gpu in gpus if gpu.is_mig]
    if not split:
        return []
    text = f"MIG is on: {_labels(split)}; the energy of an instance cannot be measured"
    return [Finding(GROUP, "MIG", Level.WARNING, text, f"nvidia-smi -i {_indices(split)} -mig 0")]


def _memory_errors(gpus: Sequence[GpuFacts]) -> list[Finding]:
    broken = {gpu: gpu.health.memory_faults for gpu in gpus if gpu.health is not None}
    broken = {gpu: faults for gpu, faults in broken.items() if faults}
    advice = "reset it (nvidia-smi --gpu-reset -i N), or leave it out; replace it if that recurs"
    if broken:
        level = Level.FATAL if len(broken) == len(gpus) else Level.WARNING
        text = "; ".join(f"{gpu.label}: {', '.join(faults)}" for gpu, faults in broken.items())
        return [Finding(GROUP, "memory errors", level, text, advice)]
    states = [None if gpu.health is None else gpu.health.ecc_is_on for gpu in gpus]
    if None in states:
        return [Finding(GROUP, "memory errors", Level.UNKNOWN, "the GPUs report no ECC")]
    if not all(states):
        off = [gpu for gpu, on in zip(gpus, states, strict=True) if not on]
        text = f"ECC is off: {_labels(off)}; a flipped bit goes unnoticed"
        advice = f"nvidia-smi -i {_indices(off)} -e 1, then restart the host"
        return [Finding(GROUP, "memory errors", Level.WARNING, text, advice)]
    return [Finding(GROUP, "memory errors", Level.OK, "ECC is on, no uncorrected errors")]


def _xids(gpus: Sequence[GpuFacts]) -> list[Finding]:
    serious = {
        gpu: [event for xid in gpu.xids or () if (event := XidEvent("", xid, 0.0)).needs_reset]
        for gpu in gpus
    }
    serious = {gpu: events for gpu, events in serious.items() if events}
    if not serious and any(gpu.xids is None for gpu in gpus):
        text = "none while this looked, and the kernel log cannot be read"
        return [Finding(GROUP, "Xids", Level.UNKNOWN, text, "run this as root")]
    if not serious:
        return [Finding(GROUP, "Xids", Level.OK, "none that asks for a reset")]
    text = "; ".join(
        f"{gpu.label}: " + ", ".join(f"Xid {e.xid}, {e.meaning}" for e in events)
        for gpu, events in serious.items()
    )
    advice = "if that was not followed by a reset: nvidia-smi --gpu-reset -i N; see `dmesg`"
    return [Finding(GROUP, "Xids", Level.WARNING, text, advice)]


def _slowdowns(gpus: Sequence[GpuFacts]) -> list[Finding]:
    slow = [gpu for gpu in gpus if gpu.reasons & SLOWDOWNS]
    if not slow:
        return []
    text = "; ".join(f"{gpu.label}: {', '.join(sorted(gpu.reasons & SLOWDOWNS))}" for gpu in slow)
    advice = "look at cooling and power supply: such a GPU gives less than its points say"
    return [Finding(GROUP, "slow-down", Level.WARNING, text, advice)]


def _processes(gpus: Sequence[GpuFacts]) -> list[Finding]:
    if all(gpu.processes is None for gpu in gpus):
        return [Finding(GROUP, "processes", Level.UNKNOWN, "the driver does not list them")]
    used = [gpu for gpu in gpus if gpu.processes]
    if not used:
        return [Finding(GROUP, "processes", Level.OK, "no other process on a GPU")]
    text = "; ".join(f"{gpu.label}: {_pids(gpu.processes or ())}" for gpu in used)
    advice = "end them, or leave these GPUs out: their joules could only be estimated"
    return [Finding(GROUP, "processes", Level.WARNING, text, advice)]


def _clocks(gpus: Sequence[GpuFacts]) -> list[Finding]:
    """Look for SM clocks that something else holds down; NVML cannot read a clock limit back."""
    held = [gpu for gpu in gpus if _clock_is_held(gpu)]
    advice = f"nvidia-smi -i {_indices(held)} -rgc; then see what sets it"
    if held:
        text = "; ".join(
            f"{gpu.label}: {gpu.sm_clock_mhz} of {gpu.highest_mhz} MHz at work, for no reason "
            "that the driver gives"
            for gpu in held
        )
        text += ": a clock limit of another program"
        return [Finding(GROUP, "clocks", Level.WARNING, text, advice)]
    fixed = [gpu for gpu in gpus if gpu.highest_mhz is None]
    if fixed:
        text = f"the clock cannot be limited: {_labels(fixed)}"
        advice = "the fleet follows the budget by batch limits and sleep alone"
        return [Finding(GROUP, "clocks", Level.WARNING, text, advice)]
    if any(_is_busy(gpu) for gpu in gpus):
        return [Finding(GROUP, "clocks", Level.OK, "no sign of another program's limit")]
    text = "all idle, so that a limit of another program would not show"
    return [Finding(GROUP, "clocks", Level.UNKNOWN, text)]


def _clock_is_held(gpu: GpuFacts) -> bool:
    if gpu.highest_mhz is None or gpu.sm_clock_mhz is None:
        return False
    if LimitReason.APPLICATION_CLOCKS in gpu.reasons and _is_busy(gpu):
        return True
    is_low = gpu.sm_clock_mhz < gpu.highest_mhz - TOLERANCE_MHZ
    return _is_busy(gpu) and is_low and not gpu.reasons


def _is_busy(gpu: GpuFacts) -> bool:
    return gpu.utilisation is not None and gpu.utilisation >= BUSY


def _limits(gpus: Sequence[GpuFacts]) -> list[Finding]:
    asked = _lowered(gpus, lambda gpu: gpu.limit_w)
    outside = [gpu for gpu in _lowered(gpus, lambda gpu: gpu.enforced_w) if gpu not in asked]
    findings = []
    if asked:
        text = "; ".join(
            f"{gpu.label}: {gpu.limit_w:.0f} W, {gpu.default_w:.0f} W by default" for gpu in asked
        )
        default_w = max(gpu.default_w or 0.0 for gpu in asked)
        advice = f"nvidia-smi -i {_indices(asked)} -pl {default_w:.0f}, unless it is meant"
        findings.append(Finding(GROUP, "power limits", Level.WARNING, text, advice))
    if outside:
        text = "; ".join(
            f"{gpu.label}: {gpu.enforced_w:.0f} W in force, {gpu.default_w:.0f} W by default"
            for gpu in outside
        )
        advice = "a limit from outside the host (BMC); see its power settings"
        findings.append(Finding(GROUP, "power limits", Level.WARNING, text, advice))
    if findings:
        return findings
    if any(gpu.limit_w is None or gpu.default_w is None for gpu in gpus):
        return [Finding(GROUP, "power limits", Level.UNKNOWN, "not reported")]
    return [Finding(GROUP, "power limits", Level.OK, "as after a driver load")]


def _lowered(gpus: Sequence[GpuFacts], limit: Callable[[GpuFacts], float | None]) -> list[GpuFacts]:
    """Return the GPUs with a limit more than 1 W below the default."""
    return [
        gpu
        for gpu in gpus
        if gpu.default_w is not None
        and (limit_w := limit(gpu)) is not None
        and limit_w < gpu.default_w - 1
    ]


def _persistence(gpus: Sequence[GpuFacts]) -> list[Finding]:
    known = [None if gpu.health is None else gpu.health.persistence for gpu in gpus]
    off = [gpu for gpu, on in zip(gpus, known, strict=True) if on is False]
    if off:
        text = f"persistence mode is off: {_labels(off)}; limits are lost with the last process"
        return [Finding(GROUP, "persistence", Level.WARNING, text, "sudo nvidia-smi -pm 1")]
    if None in known:
        return [Finding(GROUP, "persistence", Level.UNKNOWN, "not reported")]
    return [Finding(GROUP, "persistence", Level.OK, "on")]


def check_counters(gpus: Sequence[GpuFacts]) -> list[Finding]:
    """Return whether the joules of the GPUs are right, as far as a short look shows."""
    without = [gpu for gpu in gpus if not gpu.counter.exists]
    if without:
        text = f"no energy counter: {_labels(without)}; joules are integrated from the power"
        advice = "energy is then labelled integrated, with a wider error"
        return [Finding(GROUP, "energy", Level.WARNING, text, advice)]
    wrong = [gpu for gpu in gpus if abs(gpu.counter.error_share or 0.0) > LEAST_ERROR]
    if wrong:
        text = "; ".join(_disagreement(gpu) for gpu in wrong)
        advice = (
            "do not charge by it: compare with a meter of the node, update driver and firmware, "
            "or leave the GPU out"
        )
        return [Finding(GROUP, "energy", Level.WARNING, text, advice)]
    compared = [error for gpu in gpus if (error := gpu.counter.error_share) is not None]
    periods_s = [s for gpu in gpus if (s := gpu.counter.period_s) is not None]
    if len(compared) < len(gpus):
        text = "counter and power could not be compared: the draw changed, or the counter stood"
        return [
            Finding(GROUP, "energy", Level.UNKNOWN, text, "run this again while the GPUs are idle")
        ]
    text = (
        f"counters move every {max(periods_s) * 1e3:.0f} ms and agree with the power to "
        f"{max(map(abs, compared)) * 100:.0f} %"
    )
    return [Finding(GROUP, "energy", Level.OK, text)]


def _disagreement(gpu: GpuFacts) -> str:
    counter = gpu.counter
    assert counter.counter_w is not None, "a counter that disagrees was watched"
    assert counter.power_w is not None, "a counter that disagrees was watched"
    return (
        f"{gpu.label}: {counter.counter_w:.0f} W by the counter, {counter.power_w:.0f} W by the "
        f"power reading ({(counter.error_share or 0.0) * 100:+.0f} %)"
    )


def _labels(gpus: Sequence[GpuFacts]) -> str:
    return ", ".join(gpu.label for gpu in gpus)


def _indices(gpus: Sequence[GpuFacts]) -> str:
    return ",".join(str(gpu.index) for gpu in gpus)


def _pids(pids: Iterable[int]) -> str:
    found = list(pids)
    return f"{'process' if len(found) == 1 else 'processes'} {', '.join(map(str, found))}"
