"""How many replicas the free GPUs of the machines hold, and where they go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from steppe.config import FleetSection
from steppe.errors import ConfigError
from steppe.fleet.cluster import Machine


def is_model(gpu_name: str, wanted: str | None) -> bool:
    """Return whether NVML's name of a GPU contains what is wanted, in any case of letters."""
    return wanted is None or wanted.casefold() in gpu_name.casefold()


def room_of(gpus: Mapping[str, int], gpus_per_replica: int) -> int:
    """Return how many replicas fit on these GPUs, by machine: none spans two machines."""
    return sum(count // gpus_per_replica for count in gpus.values())


def replicas_wanted(
    fleet: FleetSection, machines: Sequence[Machine], free: Mapping[str, int]
) -> int:
    """Return the number of replicas; those without free GPUs now get them later.

    Args:
        fleet: What is asked for.
        machines: The machines that are open.
        free: Their free GPUs, and those of machines that open later.

    Raises:
        ConfigError: All GPUs, free or not, hold fewer replicas, or the free ones none.
    """
    each = fleet.gpus_per_replica
    total = {machine.id: machine.gpus for machine in machines}
    room = room_of(free, each)
    most = room_of({**free, **total}, each)
    count = room if fleet.replicas == "all" else fleet.replicas
    if room and count <= most:
        return count
    asked = f"fleet.replicas: asked for {fleet.replicas} with {each} GPU each"
    gpus, left = sum(total.values()), sum(free.values())
    busy = f" ({gpus - left} of {gpus} GPUs are in use)" if left < gpus else ""
    raise ConfigError(f"{asked}, found room for {room}{busy}")


def spread(sizes: Sequence[int], room: Iterable[tuple[Machine, int]]) -> list[Machine | None]:
    """Return the machine of each new replica, round-robin over the machines with room for it.

    Args:
        sizes: GPUs of each replica. The largest are placed first.
        room: Free GPUs of each machine.

    Returns:
        A machine for each replica; None for those without room.
    """
    left = dict(room)
    order, places = list(left), dict[int, Machine]()
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        found = next((machine for machine in order if left[machine] >= sizes[index]), None)
        if found is not None:
            left[found] -= sizes[index]
            order.remove(found)
            order.append(found)
            places[index] = found
    return [places.get(index) for index in range(len(sizes))]
