"""The limits in force while links, processes, clocks and disks fail."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.grid.limits.world import LINK, Process, World, watts_of

from steppe.config.section import LARGEST
from steppe.errors import DiskFullError, UsageError
from steppe.grid.limits.limit import Limit, LimitTerms, Link, Step
from steppe.grid.limits.limits import Limits


def test_the_default_of_a_link_holds_until_it_has_sent_a_limit(start: Process) -> None:
    limits = start()
    found = limits.in_force()
    assert found is not None
    assert (found.watts, found.name) == (500.0, "openadr/default")
    limits.heard("openadr")
    assert watts_of(limits) == 500.0


def test_nothing_limits_the_site_if_a_link_says_that_it_asks_nothing(start: Process) -> None:
    limits = start()
    limits.repeated("openadr")
    assert limits.in_force() is None


def test_a_limit_holds_from_its_steps_on_and_its_default_around_them(
    start: Process, world: World
) -> None:
    limits, now_s = start(), world.wall_s
    steps = (Step(now_s + 10, 900.0), Step(now_s + 20, 100.0))
    limits.put(Limit("site", "openadr", now_s, steps, now_s + 30, 300.0))
    assert [watts_of(limits, ahead) for ahead in (0, 10, 20, 29)] == [300.0, 900.0, 100.0, 100.0]
    assert watts_of(limits, 30) == 300.0
    found = limits.in_force(10)
    assert found is not None
    assert found.name == "openadr/site"


def test_a_lifted_limit_leaves_its_default(start: Process, world: World) -> None:
    limits = start()
    limits.put(world.limit(100.0))
    limits.lift("openadr", "site", world.wall_s + 1)
    assert watts_of(limits) == 300.0


def test_the_lowest_of_two_links_holds(path: Path, world: World) -> None:
    limits = Limits(path, [LINK, Link("dsx", 400.0, 10.0)], clock=world.clock())
    limits.put(world.limit(450.0))
    assert watts_of(limits) == 400.0
    limits.put(replace(world.limit(50.0), source="dsx"))
    found = limits.in_force()
    assert found is not None
    assert (found.watts, found.name) == (50.0, "dsx/site")


def test_a_lost_link_falls_to_the_lower_default_never_to_unlimited(
    start: Process, world: World
) -> None:
    limits = start()
    limits.put(world.limit(1000.0))
    world.true_s += 60
    assert watts_of(limits) == 1000.0
    assert not limits.is_lost("openadr")
    world.true_s += 1
    assert watts_of(limits) == 300.0
    assert limits.is_lost("openadr")
    world.true_s += 1e6
    assert watts_of(limits) == 300.0


def test_a_lower_limit_with_an_end_holds_to_it_while_the_link_is_lost(
    start: Process, world: World
) -> None:
    limits = start()
    limits.put(world.limit(100.0, lasts_s=600.0))
    world.true_s += 599
    assert watts_of(limits) == 100.0
    world.true_s += 1
    assert watts_of(limits) == 300.0


def test_a_limit_without_an_end_falls_to_the_default_when_the_link_is_lost(
    start: Process, world: World
) -> None:
    limits = start()
    limits.put(world.limit(0.0))
    world.true_s += 61
    assert watts_of(limits) == 300.0


def test_after_a_loss_the_default_holds_until_the_limit_is_repeated(
    start: Process, world: World
) -> None:
    limits, limit = start(), world.limit(1000.0)
    limits.put(limit)
    world.true_s += 100
    limits.heard("openadr")
    assert watts_of(limits) == 300.0
    limits.put(limit)
    assert watts_of(limits) == 1000.0


def test_what_a_link_does_not_repeat_after_a_loss_is_taken_back(
    start: Process, world: World
) -> None:
    limits, kept = start(), world.limit(900.0, name="kept")
    limits.put(kept)
    limits.put(world.limit(50.0, name="gone", lasts_s=9000.0, default_w=600.0))
    limits.put_event(replace(world.event(in_s=500.0), priority=3), 1000.0)
    world.true_s += 100
    limits.put(kept)
    assert watts_of(limits) == 50.0
    limits.repeated("openadr")
    assert watts_of(limits) == 600.0
    assert watts_of(limits, 450.0) == 600.0


def test_a_restart_keeps_limits_and_events(start: Process, world: World) -> None:
    limits = start()
    limits.put(world.limit(900.0))
    limits.put_event(world.event(), 1000.0)
    world.true_s += 15
    again = start()
    assert watts_of(again) == watts_of(limits) == 100.0
    assert watts_of(again, 105.0) == watts_of(limits, 105.0) == 550.0
    assert watts_of(again, 200.0) == 900.0


def test_a_restart_while_the_link_is_lost_begins_with_the_default(
    start: Process, world: World
) -> None:
    start().put(world.limit(1000.0))
    world.true_s += 3600
    assert watts_of(start()) == 300.0
    world.booted_s = world.true_s
    assert watts_of(start()) == 300.0


def test_a_restart_does_not_raise_a_lower_limit_before_the_loss_is_sure(
    start: Process, world: World
) -> None:
    start().put(world.limit(100.0))
    world.true_s += 3600
    again = start()
    assert watts_of(again) == 100.0
    world.true_s += 61
    assert watts_of(again) == 300.0


def test_signs_of_life_reach_the_disk_often_enough(start: Process, world: World) -> None:
    limits = start()
    limits.put(world.limit(1000.0))
    for _ in range(100):
        world.true_s += 5
        limits.heard("openadr")
    world.true_s += 40
    assert watts_of(start()) == 1000.0


def test_few_signs_of_life_are_written(
    start: Process, world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = start()
    limits.put(world.limit(1000.0))
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for _ in range(60):
        world.true_s += 1
        limits.heard("openadr")
    assert len(synced) == 8  # 4 writes of a file and its folder
    assert path.exists()


def test_a_clock_that_is_set_back_does_not_lengthen_a_limit(start: Process, world: World) -> None:
    limits = start()
    limits.put(world.limit(1000.0, lasts_s=50.0))
    world.wrong_s = -1e5
    world.true_s += 50
    limits.heard("openadr")
    assert watts_of(limits) == 300.0
    assert watts_of(start()) == 300.0


def test_a_clock_that_is_set_back_does_not_keep_a_lost_link_alive(
    start: Process, world: World
) -> None:
    limits = start()
    limits.put(world.limit(1000.0))
    world.wrong_s = -1e5
    world.true_s += 61
    assert watts_of(limits) == 300.0
    assert watts_of(start()) == 300.0


def test_a_clock_that_is_set_forward_lifts_no_event(start: Process, world: World) -> None:
    limits = start()
    limits.put(world.limit(900.0))
    limits.put_event(world.event(), 1000.0)
    world.true_s += 20
    world.wrong_s = 1e6
    assert watts_of(limits) == 100.0
    assert watts_of(start()) == 100.0


def test_a_clock_that_is_set_forward_begins_an_event_early_rather_than_late(
    start: Process, world: World
) -> None:
    limits = start()
    limits.put(world.limit(900.0))
    limits.put_event(world.event(in_s=1000.0), 1000.0)
    world.wrong_s = 1020.0
    assert watts_of(limits) == 100.0


def test_a_reboot_with_a_clock_that_was_set_back_takes_links_for_lost(
    start: Process, world: World
) -> None:
    start().put(world.limit(1000.0))
    world.true_s += 10
    world.booted_s = world.true_s
    world.wrong_s = -1e5
    again = start()
    assert watts_of(again) == 300.0
    assert again.is_lost("openadr")


def test_after_a_reboot_a_clock_that_is_set_back_does_not_delay_an_event(
    start: Process, world: World
) -> None:
    limits = start()
    limits.repeated("openadr")
    limits.put_event(world.event(), 1000.0)
    world.true_s += 20
    world.booted_s = world.true_s
    start()
    world.wrong_s -= 100_000
    assert watts_of(start()) == 100.0


def test_a_file_that_cannot_be_read_leaves_the_default_until_a_limit_comes(
    start: Process, world: World, path: Path
) -> None:
    start().put(world.limit(1000.0))
    whole = path.read_bytes()
    for damaged in (whole[:-5], b"", whole.replace(b"1000.0", b"9000.0"), b"\xff\n{}"):
        path.write_bytes(damaged)
        limits = start()
        assert watts_of(limits) == 500.0
        limits.heard("openadr")
        limits.repeated("openadr")
        assert watts_of(limits) == 500.0
        assert watts_of(start()) == 500.0
    limits.put(world.limit(1000.0))
    assert watts_of(limits) == 1000.0


def test_a_damaged_file_leaves_what_the_version_before_it_held(path: Path, world: World) -> None:
    link = Link("http", default_w=LARGEST, lost_s=LARGEST)

    def start() -> Limits:
        return Limits(path, [link], clock=world.clock())

    limits = start()
    assert limits.in_force() is None, "a link without a default limits nothing"
    for watts in (400.0, 700.0):
        limit = replace(world.limit(watts, default_w=LARGEST), source="http")
        limits.put(replace(limit, issued_s=limit.issued_s + watts))
    path.write_bytes(b"torn")
    assert watts_of(start()) == 400.0
    path.unlink()
    assert watts_of(start()) == 400.0


@pytest.mark.parametrize("issued_s", [float("inf"), float("nan"), 4e9])
def test_a_limit_is_not_lifted_with_an_absurd_issue(
    start: Process, world: World, issued_s: float
) -> None:
    limits = start()
    limits.put(world.limit(1000.0))
    limits.put_event(world.event(), 2000.0)
    for take_back in (limits.lift, limits.cancel):
        with pytest.raises(UsageError, match="asked for"):
            take_back("openadr", "site" if take_back == limits.lift else "e1", issued_s)
    world.true_s += 10
    assert watts_of(limits) == 100.0


def test_a_folder_in_place_of_the_file_leaves_the_default(start: Process, path: Path) -> None:
    path.mkdir(parents=True)
    assert watts_of(start()) == 500.0


def test_a_full_disk_is_an_error_and_the_limit_holds_all_the_same(
    start: Process, world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = start()
    limits.put(world.limit(1000.0))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFullError, match="No space left on device"):
            limits.put(world.limit(50.0, issued_s=1.0))
    assert watts_of(limits) == 50.0
    assert watts_of(start()) == 300.0, "a restart must not find the higher limit"
    limits.heard("openadr")
    assert watts_of(start()) == 50.0


def test_a_changed_event_keeps_its_baseline(start: Process, world: World) -> None:
    limits = start()
    limits.repeated("openadr")
    limits.put_event(world.event(), 1000.0)
    world.true_s += 5
    limits.put_event(replace(world.event(watts=200.0), issued_s=world.wall_s), 5000.0)
    assert watts_of(limits) == 1000.0
    assert watts_of(limits, 5.0) == 600.0


def test_a_cancelled_event_ramps_up_and_an_old_copy_does_not_bring_it_back(
    start: Process, world: World
) -> None:
    limits, event = start(), world.event()
    limits.repeated("openadr")
    limits.put_event(event, 1000.0)
    world.true_s += 50
    limits.cancel("openadr", "e1", world.wall_s)
    assert [watts_of(limits, ahead) for ahead in (0, 10, 20)] == [100.0, 550.0, None]
    world.true_s += 30
    with pytest.raises(UsageError, match="event e1: asked for a version newer"):
        limits.put_event(event, 1000.0)
    assert limits.in_force() is None


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ({"name": "a\n"}, "limit: asked for 1 to 128 characters"),
        ({"default_w": -1.0}, "limit site: default_w: asked for 0 to 1e.12 W, found -1 W"),
        ({"watts": (Step(0.0, float("nan")),)}, "limit site: asked for 0 to 1e.12 W, found nan W"),
        ({"watts": (Step(5.0, 1.0), Step(5.0, 2.0))}, "asked for steps in the order of time"),
        ({"watts": (Step(1e12, 1.0),)}, "asked for steps and an issue within 2678400 s"),
        ({"watts": (Step(float("nan"), 1.0),)}, r"asked for times from 0 s on, found nan s"),
        ({"watts": (Step(0.0, 1.0),) * 3001}, "asked for at most 3000 steps, found 3001"),
        ({"issued_s": float("inf")}, "asked for times from 0 s on"),
        ({"issued_s": 1.0}, "asked for a version newer than that of"),
        ({"expires_s": 100.0}, "asked for an end in the future, found one that was"),
        ({"expires_s": float("nan")}, "asked for an end in the future"),
        ({"expires_s": float("inf")}, "asked for an end, or none, found inf s"),
        ({"default_w": 400.0}, "asked for one limit per name and issue"),
        ({"source": "else"}, "link 'else': asked for a link of this site, found openadr"),
    ],
)
def test_a_bad_limit_is_refused_and_the_budget_is_unharmed(
    bad: dict[str, object], line: str, start: Process, world: World
) -> None:
    limits, good = start(), world.limit(200.0)
    limits.put(good)
    with pytest.raises(UsageError, match=line) as caught:
        limits.put(replace(good, **bad))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert watts_of(limits) == watts_of(start()) == 200.0


def test_a_bad_event_is_refused_and_the_budget_is_unharmed(start: Process, world: World) -> None:
    limits = start()
    limits.put(world.limit(200.0))
    for bad in (world.event(watts=-5.0), world.event(in_s=-500.0), world.event(in_s=1e8)):
        with pytest.raises(UsageError, match="event e1: asked for"):
            limits.put_event(bad, 1000.0)
    with pytest.raises(UsageError, match="baseline_w: asked for 0 to"):
        limits.put_event(world.event(), float("nan"))
    assert watts_of(limits) == watts_of(limits, 30.0) == 200.0


def test_one_link_has_a_bounded_number_of_names(path: Path, world: World) -> None:
    limits = Limits(path, [LINK], clock=world.clock(), limit_terms=LimitTerms(most_held=2))
    for name in ("a", "b", "a"):
        limits.put(world.limit(200.0, name=name))
    with pytest.raises(UsageError, match="asked for at most 2 names of a link, found one more"):
        limits.put(world.limit(200.0, name="c"))


def test_what_is_not_held_cannot_be_lifted_or_cancelled(start: Process, world: World) -> None:
    limits = start()
    with pytest.raises(UsageError, match="limit site: asked to lift it, found none of link open"):
        limits.lift("openadr", "site", world.wall_s)
    with pytest.raises(UsageError, match="event e1: asked to cancel it, found none of link open"):
        limits.cancel("openadr", "e1", world.wall_s)
    limits.put(world.limit(100.0))
    with pytest.raises(UsageError, match="limit site: asked for a version newer"):
        limits.lift("openadr", "site", world.wall_s - 5)


def test_links_have_sound_figures_and_different_names(path: Path) -> None:
    with pytest.raises(UsageError, match="links: asked for different names, found openadr, open"):
        Limits(path, [LINK, LINK])
    with pytest.raises(UsageError, match="link dsx: default_w: asked for 0 to"):
        Link("dsx", float("inf"), 60.0)
    with pytest.raises(UsageError, match="link dsx: asked for lost_s above 0"):
        Link("dsx", 0.0, 0.0)


def test_the_clock_of_this_machine_goes_on_over_a_restart(path: Path) -> None:
    limits = Limits(path, [LINK])
    limits.repeated("openadr")
    again = Limits(path, [LINK])
    assert not again.is_lost("openadr")
    assert again.in_force() is None


def test_what_is_repeated_without_a_loss_is_not_written_again(
    start: Process, world: World, path: Path
) -> None:
    limits = start()
    limits.repeated("openadr")
    event = world.event()
    limits.put_event(event, 1000.0)
    written = path.stat().st_mtime_ns, path.stat().st_ino
    world.true_s += 1.0
    for _ in range(3):
        limits.put_event(event, 700.0)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == written
    world.true_s += 40.0
    limits.put_event(event, 700.0)  # a sign of life, too: without it the link were lost soon
    world.true_s += 40.0
    assert not limits.is_lost("openadr")
    assert [each.baseline_w for each in limits.events()] == [1000.0]
