from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import ray
from tests.fixtures.ray_actors import FakeActor, FakeCall

from steppe.config import ControlSection, EmulatedSection, NvmlSection, RunConfig, SiteSection
from steppe.errors import ConfigError, ReplicaError, UsageError
from steppe.fleet.cluster import Machine
from steppe.fleet.driver import fleet_actors, new_actors
from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.fleet.driver.pending_actors import RunningNode
from steppe.fleet.messages import GpuInfo, NodeInfo, Placement, ServedModel
from steppe.roofline.files import read_model_shape

MODEL = "llama-3.1-8b"


def fleet_of(**device: Any) -> FleetActors:
    values = {
        "model": {"name": "llama-3.1-8b"},
        "device": device,
        "fleet": {"gpus_per_replica": 2},
        "power": {"supply": [{"kind": "constant", "watts": 100}]},
        "frontier": {"sweep": {}},
    }
    return FleetActors(RunConfig.model_validate(values), ActorLifetime("run-1"))


MACHINE = Machine("n", "10.0.0.5", 8)


def node_of(*clocks_mhz: tuple[int, ...]) -> RunningNode:
    gpus = tuple(GpuInfo(i, "L4", clocks) for i, clocks in enumerate(clocks_mhz))
    info = NodeInfo(gpus, (0,), "counter")
    return RunningNode(Machine("n", "-", len(gpus)), None, info)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (("counter", "counter"), "counter"),
        (("counter", "integrated"), "integrated"),
        (("estimated", "integrated"), "estimated"),
        (("estimated", "emulated"), "emulated"),
    ],
)
def test_the_energy_of_a_fleet_is_no_better_than_that_of_its_worst_node(
    found: tuple[str, ...], expected: str
) -> None:
    fleet, node = fleet_of(kind="nvml"), node_of((900,))
    fleet.nodes = {
        str(number): replace(node, info=replace(node.info, energy_source=source))
        for number, source in enumerate(found)
    }
    assert fleet.energy_source == expected


def test_the_settings_of_a_node_have_the_shape_of_the_served_model() -> None:
    settings = fleet_of(kind="nvml")._new.node_settings(MACHINE, 1)
    assert settings.device == NvmlSection(kind="nvml")
    assert settings.models == {"llama-3.1-8b": ServedModel(read_model_shape("llama-3.1-8b"), 2)}
    emulated = fleet_of(kind="emulated", profile="h100")._new.node_settings(MACHINE, 1)
    pace = EmulatedSection(kind="emulated").pace
    assert emulated.models == {"llama-3.1-8b": ServedModel(None, 2, pace)}
    assert emulated.run_id == "run-1"


def test_the_nodes_share_the_overhead_of_the_site() -> None:
    fleet = fleet_of(kind="nvml")
    site = SiteSection(boundary="site", node_rest_w=1500.0, overhead_w=400.0)
    new = replace(fleet._new, config=fleet._config.model_copy(update={"site": site}))
    settings = new.node_settings(MACHINE, 4)
    assert (settings.site, settings.overhead_w, settings.address) == (site, 100.0, "10.0.0.5")


def test_serving_on_modelled_gpus_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"device\.kind"):
        fleet_of(kind="modelled")._new.node_settings(MACHINE, 1)


def test_a_replica_that_lost_its_node_still_belongs_to_the_fleet(
    fake_ray: None,
) -> None:
    fleet = fleet_of(kind="nvml")
    for name, node in (("replica-1", "a"), ("replica-2", "b")):
        fleet.placements[name] = Placement(name, FakeActor(), node, FakeActor(), [0], ())
        fleet.nodes[node] = node_of((600,))
    fleet.remove_node("b")
    assert (fleet.unplaced, fleet.replicas) == (["replica-2"], 2)


@dataclass
class FakeRemote:
    """Makes a fake actor where Ray would make one."""

    actors: list[FakeActor] = field(default_factory=list)

    def __call__(self, _: type) -> Any:
        return self

    def options(self, **_: Any) -> Any:
        return self

    def remote(self, *_: Any) -> Any:
        self.actors.append(FakeActor({"gpu_indices": [0, 1]}, ready=False))
        return self.actors[-1]


def fail(actor: Any, cause: UsageError) -> None:
    actor.calls[0].answer = ray.exceptions.RayTaskError("it", "", cause)
    actor.calls[0].ready = True


def fail_in_time(_: Any, *, timeout: float) -> None:
    assert timeout == 0.0, "it would wait"
    raise ray.exceptions.GetTimeoutError("late")


@pytest.fixture
def unplaced(
    fake_ray: None, monkeypatch: pytest.MonkeyPatch
) -> tuple[FleetActors, FakeRemote, list[Any]]:
    """Return a fleet with a free node and a replica without one, its actors, and those killed."""
    fleet, remote, killed = fleet_of(kind="nvml"), FakeRemote(), list[Any]()
    fleet.nodes["n"], fleet.unplaced = node_of((600,), (600,)), ["replica-1"]
    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(new_actors, "on_node", str)
    monkeypatch.setattr(fleet_actors, "free_gpus", lambda: {"n": 2, "other": 2})
    return fleet, remote, killed


def test_placing_a_replica_does_not_wait_for_gpus_of_another_job(
    unplaced: tuple[FleetActors, FakeRemote, list[Any]],
) -> None:
    fleet, remote, _ = unplaced
    alive = [fleet.nodes["n"].machine]
    assert [fleet.place_unplaced(alive) for _ in range(3)] == [[], [], []]
    (actor,) = remote.actors
    assert fleet.replicas == 1
    actor.calls[0].ready = True
    (place,) = fleet.place_unplaced(alive)
    assert (place.replica, place.actor, place.gpu_indices) == ("replica-1", actor, [0, 1])
    assert fleet.place_unplaced(alive) == []
    assert (fleet.replicas, fleet.unplaced) == (1, [])


def test_a_replica_that_waits_too_long_is_tried_on_another_machine_first(
    unplaced: tuple[FleetActors, FakeRemote, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, remote, killed = unplaced
    busy, other = fleet.nodes["n"].machine, Machine("other", "-", 2)
    with monkeypatch.context() as patch:
        patch.setattr(fleet_actors, "PLACE_TIMEOUT_S", -1.0)
        patch.setattr(ray, "get", fail_in_time)
        assert fleet.place_unplaced([busy]) == []
    assert (fleet.unplaced, killed) == (["replica-1"], remote.actors)
    fleet.nodes["other"] = replace(fleet.nodes["n"], machine=other)
    fleet.place_unplaced([busy, other])
    remote.actors[1].calls[0].ready = True
    assert [place.node_id for place in fleet.place_unplaced([busy, other])] == ["other"]


def test_a_new_node_that_cannot_be_used_does_not_end_the_run(
    unplaced: tuple[FleetActors, FakeRemote, list[Any]],
) -> None:
    fleet, remote, killed = unplaced
    bare, whole = Machine("bare", "-", 2), fleet.nodes.pop("n")
    fleet.place_unplaced([bare])
    fail(remote.actors[0], ConfigError("device.zeusd: it does not answer"))
    assert fleet.place_unplaced([bare]) == []
    assert (fleet.unplaced, killed) == (["replica-1"], remote.actors)
    fleet.nodes["n"] = whole
    fleet.place_unplaced([bare, whole.machine])
    remote.actors[1].calls[0].ready = True
    assert [p.node_id for p in fleet.place_unplaced([bare, whole.machine])] == ["n"]


def test_a_replica_with_unknown_gpus_is_killed_and_tried_again_after_a_pause(
    unplaced: tuple[FleetActors, FakeRemote, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, remote, killed = unplaced
    alive = [fleet.nodes["n"].machine]
    fleet.place_unplaced(alive)
    fail(remote.actors[0], UsageError("CUDA_VISIBLE_DEVICES: asked for MIG-7"))
    assert fleet.place_unplaced(alive) == []
    assert (fleet.unplaced, killed, fleet.replicas) == (["replica-1"], remote.actors, 1)
    fleet.place_unplaced(alive)
    assert len(remote.actors) == 1, "the pause is not over"
    monkeypatch.setattr(fleet._pauses, "_ends_s", {})
    fleet.place_unplaced(alive)
    remote.actors[1].calls[0].ready = True
    assert [place.replica for place in fleet.place_unplaced(alive)] == ["replica-1"]


@pytest.mark.parametrize(("free", "moves"), [(2, True), (1, False)])
def test_a_quarantined_replica_gets_other_gpus_if_enough_are_free(
    unplaced: tuple[FleetActors, FakeRemote, list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    moves: bool,
) -> None:
    fleet, remote, killed = unplaced
    old = FakeActor()
    fleet.unplaced = []
    fleet.placements["replica-1"] = Placement("replica-1", old, "n", FakeActor(), [0, 1], ())
    monkeypatch.setattr(fleet_actors, "free_gpus", lambda: {"n": free})
    fleet.seek_other_gpus("replica-1")
    assert fleet.unplaced == (["replica-1"] if moves else [])
    assert fleet.replicas == 1
    assert killed == [], "its actor keeps the faulty GPUs"
    if moves:
        alive = [fleet.nodes["n"].machine]
        fleet.place_unplaced(alive)
        remote.actors[0].calls[0].ready = True
        (place,) = fleet.place_unplaced(alive)
        assert place.actor is remote.actors[0]
    fleet.stop()
    assert old in killed


def test_a_fleet_of_four_nodes_begins_although_one_is_slow_to_download(
    fake_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = fleet_of(kind="nvml")
    monkeypatch.setattr(fleet.starts, "_clock", map(float, range(0, 10_000, 10)).__next__)
    downloads: dict[str, FakeCall] = {}
    monkeypatch.setattr(
        fleet._downloads[MODEL],
        "folder_on",
        lambda machine: downloads.setdefault(machine.id, FakeCall("folder", machine.id != "n4")),
    )
    for number in range(1, 9):
        node = f"n{(number + 1) // 2}"
        fleet.nodes[node] = replace(node_of((600,), (600,)), machine=Machine(node, "-", 2))
        actor = FakeActor(ready=node != "n4")  # an engine starts once its node has the model
        name = f"replica-{number}"
        fleet.placements[name] = Placement(
            name, actor, node, FakeActor(), [number], (), model=MODEL
        )
    lines = list[str]()
    fleet.start(lines.append, lines.append)
    assert list(downloads) == ["n1", "n2", "n3", "n4"], "once on each"
    assert fleet.ready == [f"replica-{number}" for number in range(1, 7)]
    assert list(fleet.starts.running()) == ["replica-7", "replica-8"]
    assert lines[:2] == [
        "getting the model llama-3.1-8b",
        "loading 8 replicas: weights and warm-up",
    ]


def test_a_download_that_never_ends_does_not_outlast_the_limit_of_a_start(
    fake_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = fleet_of(kind="nvml")
    monkeypatch.setattr(fleet_actors, "POLL_S", 0.0)
    monkeypatch.setattr(fleet.starts, "_clock", map(float, range(0, 10_000, 100)).__next__)
    monkeypatch.setattr(fleet._downloads[MODEL], "folder_on", lambda _: FakeCall("", ready=False))
    monkeypatch.setattr(type(fleet._downloads[MODEL]), "has_any", False)
    fleet.nodes["n"] = node_of((600,))
    node = FakeActor({"last_log_lines": ""})
    actor = FakeActor(ready=False)
    place = Placement("replica-1", actor, "n", node, [0], (), model=MODEL)
    fleet.placements["replica-1"] = place
    with pytest.raises(ReplicaError, match=r"no replica serves after 1800 s \(fleet\.start_s\)"):
        fleet.start(print, print)


def test_a_replica_that_is_not_placed_yet_ends_with_the_run(
    unplaced: tuple[FleetActors, FakeRemote, list[Any]],
) -> None:
    fleet, remote, killed = unplaced
    fleet.place_unplaced([fleet.nodes["n"].machine])
    fleet.stop()
    assert killed == remote.actors


@pytest.mark.parametrize(
    ("wanted", "lowest_w", "limited"),
    [(True, 40.0, True), (False, 40.0, False), (True, None, False)],
)
def test_a_replica_gets_board_limits_where_they_can_be_set_and_are_wanted(
    unplaced: tuple[FleetActors, FakeRemote, list[Any]],
    wanted: bool,
    lowest_w: float | None,
    limited: bool,
) -> None:
    fleet, remote, _ = unplaced
    control = ControlSection(power_limits=wanted)
    fleet._config = fleet._config.model_copy(update={"control": control})
    node = fleet.nodes["n"]
    gpus = tuple(
        replace(gpu, power_limit_w=72.0, lowest_power_limit_w=lowest_w) for gpu in node.info.gpus
    )
    fleet.nodes["n"] = replace(node, info=replace(node.info, gpus=gpus))
    fleet.place_unplaced([node.machine])
    remote.actors[0].calls[0].ready = True
    (place,) = fleet.place_unplaced([node.machine])
    assert place.power_ranges_w == ((40.0, 72.0),) * (len(place.gpu_indices) if limited else 0)
