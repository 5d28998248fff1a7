"""The controls of emulated GPUs that NVML does not have: load, faults, time, true state."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from steppe.emulator.abi import Code, SnapshotStruct, load
from steppe.errors import BackendUnavailableError, DeviceError, OutOfRangeError

_ANY_GPU = -1
_FOR_EVER = -1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The modelled true state of one emulated GPU, and the last readings of its sensors.

    Attributes:
        now_s: Emulated time, s.
        energy_j: Energy since the GPU was created, J; exact.
        counter_j: What the energy counter shows, J.
        power_w: Power, W; exact.
        instant_w: Instant power as published, W.
        average_w: One-second average as published, W.
        clock_mhz: SM clock, MHz.
        max_clock_mhz: Highest SM clock, MHz.
        temperature_c: Temperature, degrees Celsius.
        power_limit_w: Power limit, W.
        core_load: Share of compute time in use, 0 to 1.
        mem_load: Share of memory-bandwidth time in use, 0 to 1.
        clock_lock_mhz: Lowest and highest locked clock, MHz; None without a lock.
        reasons: NVML's "clocks event reasons" mask.
        clock_sets: Clock locks and resets accepted so far.
        power_limit_sets: Power limits accepted so far.
        memory_bytes: Memory held by contexts, bytes.
        contexts: Processes that hold a context.
    """

    now_s: float
    energy_j: float
    counter_j: float
    power_w: float
    instant_w: float
    average_w: float
    clock_mhz: float
    max_clock_mhz: float
    temperature_c: float
    power_limit_w: float
    core_load: float
    mem_load: float
    clock_lock_mhz: tuple[int, int] | None
    reasons: int
    clock_sets: int
    power_limit_sets: int
    memory_bytes: int
    contexts: int


class Emulator:
    """The emulated GPUs of one state file, as seen by this process.

    A process is attached to one state file at a time: attaching to another one moves every
    `Emulator` and NVML client of this process there.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        """Wrap a library that is attached; use `attach`."""
        self._library = library

    @classmethod
    def attach(cls, library: Path, state: Path, gpus: str | None = None) -> Emulator:
        """Attach this process to a state file.

        The library is loaded so that a later `dlopen("libnvidia-ml.so.1")` finds it.

        Args:
            library: The library, from `build_library`.
            state: The state file that all processes of a run share.
            gpus: GPUs to create when the file is new, such as "l4x2,h100x1"; they must be
                those of the file when it is not. None accepts the file as it is.

        Raises:
            BackendUnavailableError: The library or the state file cannot be used.
        """
        loaded = load(library)
        spec = None if gpus is None else gpus.encode()
        result = loaded.nvemu_attach(str(state).encode(), spec)
        if result != Code.OK:
            raise BackendUnavailableError(_attach_problem(result, state, gpus))
        return cls(loaded)

    @property
    def gpu_count(self) -> int:
        """How many GPUs there are."""
        return int(self._library.nvemu_count())

    def set_load(self, index: int, *, core: float, mem: float, valid_s: float) -> None:
        """Set the load of a GPU; without a renewal it falls to 0 after `valid_s`.

        Args:
            index: The GPU, in PCI order.
            core: Share of compute time in use, 0 to 1.
            mem: Share of memory-bandwidth time in use, 0 to 1.
            valid_s: How long this holds, s; `math.inf` for ever.
        """
        self._call("set_load", index, core, mem, valid_s)

    def set_context(self, index: int, pid: int, mem_bytes: int) -> None:
        """Register a process with its memory on a GPU, bytes; it ends with the process."""
        self._call("set_context", index, pid, mem_bytes)

    def clear_context(self, index: int, pid: int) -> None:
        """Remove a process from a GPU."""
        self._call("clear_context", index, pid)

    def snapshot(self, index: int) -> Snapshot:
        """Return the true state of a GPU."""
        raw = SnapshotStruct()
        self._call("snap", index, ctypes.byref(raw))
        lock = (raw.lock_min_mhz, raw.lock_max_mhz) if raw.lock_max_mhz else None
        return Snapshot(
            now_s=raw.now_s,
            energy_j=raw.true_j,
            counter_j=raw.counter_j,
            power_w=raw.power_w,
            instant_w=raw.instant_w,
            average_w=raw.average_w,
            clock_mhz=raw.clock_mhz,
            max_clock_mhz=raw.max_mhz,
            temperature_c=raw.temp_c,
            power_limit_w=raw.limit_w,
            core_load=raw.core_load,
            mem_load=raw.mem_load,
            clock_lock_mhz=lock,
            reasons=raw.reasons,
            clock_sets=raw.num_clock_sets,
            power_limit_sets=raw.num_limit_sets,
            memory_bytes=raw.mem_bytes,
            contexts=raw.num_contexts,
        )

    def speed(self, index: int) -> float:
        """Return a GPU's clock relative to its highest, 0 to 1."""
        speed = float(self._library.nvemu_speed(index))
        if speed < 0:
            raise OutOfRangeError(f"asked for emulated GPU {index}, found {self.gpu_count}")
        return speed

    def inject(
        self,
        function: str,
        *,
        error: int = Code.OK,
        index: int | None = None,
        count: int | None = None,
        delay_s: float = 0.0,
    ) -> None:
        """Make NVML calls fail, take longer, or both.

        Args:
            function: Name of the function, with or without its version; "*" for any.
            error: NVML return code; 0 for a delay alone.
            index: The GPU; None for any.
            count: How many calls; None for all until `clear_faults`.
            delay_s: Delay of the call, s of real time.
        """
        gpu = _ANY_GPU if index is None else index
        times = _FOR_EVER if count is None else count
        self._call("inject", function.encode(), gpu, error, times, delay_s)

    def clear_faults(self) -> None:
        """Remove every injected fault and spike."""
        self._call("clear_faults")

    def set_fault(self, index: int, name: str, value: float) -> None:
        """Set a fault of the hardware of one GPU, for every process that uses it.

        Args:
            index: The GPU, in PCI order.
            name: One of `steppe.emulator.hardware_faults.FAULTS`, which says what it does.
            value: What the fault takes: a count, a share, a code, or 1 and 0 for on and off.
        """
        self._call("set_fault", index, name.encode(), value)

    def set_neighbour(
        self, index: int, pid: int, *, core: float, mem: float, mem_bytes: int = 1 << 30
    ) -> None:
        """Let a process that is not the workload use a GPU, until `clear_context` or its end.

        Args:
            index: The GPU, in PCI order.
            pid: Its process; NVML lists it. In real time it must run.
            core: Share of compute time that it uses, 0 to 1.
            mem: Share of memory-bandwidth time that it uses, 0 to 1.
            mem_bytes: Memory that it holds, bytes.
        """
        self._call("set_neighbour", index, pid, core, mem, mem_bytes)

    def set_alive(self, index: int, alive: bool) -> None:
        """Make a GPU fall off the bus, or bring it back."""
        self._call("set_alive", index, int(alive))

    def reset_counter(self, index: int) -> None:
        """Restart the energy counter at 0, as after a driver reload."""
        self._call("reset_counter", index)

    def freeze(self, index: int, on: bool) -> None:
        """Freeze a GPU's energy counter and power readings, while its true state goes on."""
        self._call("freeze", index, int(on))

    def spike(self, index: int, watts: float, count: int) -> None:
        """Make the next `count` readings of the instant power equal `watts`."""
        self._call("spike", index, watts, count)

    def set_constant(self, index: int, name: str, value: float) -> None:
        """Replace one constant of a GPU's model, in W and s; `ProfileOverrides` has the names."""
        self._call("set_constant", index, name.encode(), value)

    def show(
        self, index: int, *, counter_j: float, instant_w: float, average_w: float, clock_mhz: float
    ) -> None:
        """Make a GPU show these readings until the next ones; its model stops from now on.

        The true state follows the readings shown.
        """
        self._call("show", index, counter_j, instant_w, average_w, clock_mhz)

    def use_virtual_clock(self, on: bool) -> None:
        """Stop real time for all processes, from the next whole second on, or resume it."""
        self._call("virtual", int(on))

    def tick(self, seconds: float) -> None:
        """Advance the virtual clock, s."""
        self._call("tick", seconds)

    def _call(self, name: str, *arguments: object) -> None:
        result = getattr(self._library, f"nvemu_{name}")(*arguments)
        match result:
            case Code.OK:
                return
            case Code.INVALID_ARGUMENT:
                raise OutOfRangeError(f"emulated GPU: {name} refused {arguments}")
            case Code.NOT_FOUND:
                raise OutOfRangeError(
                    f"asked for emulated GPU {arguments[0]}, found {self.gpu_count}"
                )
            case Code.INSUFFICIENT_SIZE:
                raise DeviceError(f"emulated GPU: no room for one more {name}")
            case Code.INSUFFICIENT_MEMORY:
                raise DeviceError(f"emulated GPU: {name} asked for more memory than there is")
            case _:
                raise DeviceError(f"emulated GPU: {name} failed with NVML code {result}")


def _attach_problem(result: int, state: Path, gpus: str | None) -> str:
    match result:
        case Code.INVALID_ARGUMENT:
            return f"asked for emulated GPUs {gpus!r}: not a list such as 'l4x2,h100x1'"
        case Code.NOT_FOUND:
            return f"{state} holds other emulated GPUs than {gpus!r}; remove it first"
        case Code.VERSION_MISMATCH:
            return f"{state} is not the state of these emulated GPUs; remove it first"
        case _:
            return f"cannot open the state of the emulated GPUs, {state}"
