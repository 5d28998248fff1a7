from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from tests.gateway.site import Clock

from steppe.control.admission import DEFERRABLE, Ticket
from steppe.gateway.gate import AdmissionGate
from steppe.gateway.gate_errors import RefusedError
from steppe.gateway.replica_slot import ReplicaSlot
from steppe.gateway.routing import Route

FIRST = asyncio.FIRST_COMPLETED
ONE = Route("r0", "http://r0", 1)


def _far() -> float:
    return time.monotonic() + 60


async def _wait_at(gate: AdmissionGate, *tickets: Ticket) -> list[asyncio.Task[ReplicaSlot]]:
    tasks = []
    for ticket in tickets:
        before = gate.waiting
        tasks.append(asyncio.create_task(gate.enter(ticket, _far())))
        while gate.waiting == before:
            await asyncio.sleep(0)
    return tasks


async def test_a_free_slot_is_given_at_once_even_if_no_request_may_wait() -> None:
    gate = AdmissionGate(max_waiting=0)
    gate.set_routes((ONE,), None)
    assert (await gate.enter(Ticket(1, 1), _far())).route == ONE
    with pytest.raises(RefusedError, match="1 replicas are awake, all busy") as refused:
        await gate.enter(Ticket(1, 2), _far())
    assert refused.value.code == "queue_full"


async def test_a_row_that_avoids_a_replica_leaves_the_places_of_others_free() -> None:
    gate = AdmissionGate(max_waiting=0)
    gate.set_routes((ONE, replace(ONE, replica="r1")), None)
    for number in range(3):
        row = await gate.enter(Ticket(DEFERRABLE, number), _far(), streams=True)
        row = gate.elsewhere(row, {"r0"})
        assert row.route.replica == "r1"
        gate.leave(row)
    firm = [await gate.enter(Ticket(1, number), _far()) for number in (8, 9)]
    assert {slot.route.replica for slot in firm} == {"r0", "r1"}


async def test_slots_go_to_the_most_urgent_class_first() -> None:
    gate, served = AdmissionGate(max_waiting=10), list[asyncio.Task[ReplicaSlot]]()
    tickets = [Ticket(2, 1), Ticket(1, 2), Ticket(0, 3), Ticket(1, 4)]
    tasks = await _wait_at(gate, *tickets)
    gate.set_routes((ONE,), None)
    while len(served) < len(tasks):
        await asyncio.wait([task for task in tasks if task not in served], return_when=FIRST)
        served += [task for task in tasks if task.done() and task not in served]
        gate.leave(served[-1].result())
    assert [tickets[tasks.index(task)].number for task in served] == [3, 2, 4, 1]


async def test_a_new_request_does_not_overtake_waiting_ones() -> None:
    gate = AdmissionGate(max_waiting=10)
    gate.set_routes((ONE,), None)
    slot = await gate.enter(Ticket(1, 1), _far())
    (first,) = await _wait_at(gate, Ticket(1, 2))
    gate.leave(slot)
    (second,) = await _wait_at(gate, Ticket(1, 3))
    slot = await first
    assert slot.route == ONE
    assert not second.done()
    gate.leave(slot)
    assert (await second).route == ONE


async def test_requests_that_can_still_keep_the_slo_go_before_late_ones() -> None:
    gate, now_s = AdmissionGate(max_waiting=10), time.monotonic()
    late, in_time = Ticket(1, 1, now_s - 1.0), Ticket(1, 2, now_s + 60.0)
    first, second = await _wait_at(gate, late, in_time)
    gate.set_routes((ONE,), None)
    slot = await second
    assert not first.done()
    gate.leave(slot)
    assert (await first).route == ONE


async def test_a_request_cancelled_while_waiting_leaves_the_queue_at_once() -> None:
    gate = AdmissionGate(max_waiting=10)
    (task,) = await _wait_at(gate, Ticket(1, 1))
    task.cancel()
    await asyncio.wait([task])
    assert gate.waiting == 0
    gate.set_routes((ONE,), None)
    assert gate.table.outstanding("r0") == 0


async def test_a_slot_assigned_to_a_cancelled_request_goes_to_the_next() -> None:
    gate = AdmissionGate(max_waiting=10)
    first, second = await _wait_at(gate, Ticket(1, 1), Ticket(1, 2))
    gate.set_routes((ONE,), None)
    first.cancel()
    assert (await second).route == ONE
    assert first.cancelled()
    assert gate.table.outstanding("r0") == 1


async def test_a_slot_at_a_replica_that_just_fell_asleep_is_not_used() -> None:
    gate = AdmissionGate(max_waiting=10)
    (task,) = await _wait_at(gate, Ticket(1, 1))
    gate.set_routes((ONE,), None)
    gate.set_routes((), None)
    while not gate.waiting:
        await asyncio.sleep(0)
    assert gate.table.outstanding("r0") == 0
    other = Route("r1", "http://r1", 1)
    gate.set_routes((other,), None)
    assert (await task).route == other


async def test_a_wait_that_ends_as_a_slot_comes_free_gets_the_slot() -> None:
    gate = AdmissionGate(max_waiting=10)
    first = asyncio.create_task(gate.enter(Ticket(1, 1), time.monotonic()))
    second = asyncio.create_task(gate.enter(Ticket(1, 2), _far()))
    for _ in range(3):  # both wait; the first one's time is over; its task does not run yet
        await asyncio.sleep(0)
    assert gate.waiting == 2
    gate.set_routes((ONE,), None)
    slot = await first
    assert slot.route == ONE
    assert not second.done()
    gate.leave(slot)
    assert (await second).route == ONE


async def test_the_refusal_after_a_long_wait_names_the_forecast() -> None:
    gate = AdmissionGate(max_waiting=10, now_s=lambda: 100.0)
    gate.set_routes((), 112.0)
    with pytest.raises(RefusedError, match="capacity is forecast in 12 s") as refused:
        await gate.enter(Ticket(1, 1), 100.01)
    assert refused.value.code == "waited_too_long"
    assert gate.waiting == 0


async def test_a_retry_is_not_refused_by_a_full_queue() -> None:
    gate = AdmissionGate(max_waiting=1)
    (other,) = await _wait_at(gate, Ticket(1, 2))
    retry = asyncio.create_task(gate.enter(Ticket(1, 1), _far(), is_retry=True))
    while gate.waiting < 2:
        await asyncio.sleep(0)
    gate.set_routes((ONE,), None)
    assert (await retry).route == ONE
    assert not other.done()
    other.cancel()


async def test_when_the_queue_is_full_the_last_of_a_lower_class_gives_way() -> None:
    gate = AdmissionGate(max_waiting=2)
    first, last = await _wait_at(gate, Ticket(2, 1), Ticket(2, 2))
    urgent = asyncio.create_task(gate.enter(Ticket(0, 3), _far()))
    with pytest.raises(RefusedError, match="2 requests waited, and a more urgent one") as refused:
        await last
    assert refused.value.code == "gave_way"
    assert gate.waiting == 2
    with pytest.raises(RefusedError) as refused:
        await gate.enter(Ticket(2, 4), _far())
    assert refused.value.code == "queue_full"
    gate.set_routes((ONE,), None)
    gate.leave(await urgent)
    assert (await first).route == ONE


async def test_a_cancelled_request_makes_room_in_a_full_queue() -> None:
    gate = AdmissionGate(max_waiting=1)
    (leaving,) = await _wait_at(gate, Ticket(2, 1))
    leaving.cancel()
    urgent = asyncio.create_task(gate.enter(Ticket(0, 2), _far()))
    await asyncio.wait([leaving])
    gate.set_routes((ONE,), None)
    assert (await urgent).route == ONE


async def test_a_request_counts_as_without_first_token_until_begin_or_leave() -> None:
    gate = AdmissionGate(max_waiting=10)
    gate.set_routes((Route("r0", "http://r0", 8), Route("r1", "http://r1", 8)), None)
    first, second = [await gate.enter(Ticket(1, n), _far()) for n in (1, 2)]
    gate.begin(first)
    gate.begin(first)  # called twice, counted once
    third = await gate.enter(Ticket(1, 3), _far())
    assert third.route == first.route
    for slot in (first, second, third):
        gate.leave(slot)
    assert gate.table.all_outstanding() == {"r0": 0, "r1": 0}


async def test_a_whole_response_that_left_no_longer_counts_as_without_first_token() -> None:
    gate = AdmissionGate(max_waiting=10)
    gate.set_routes((Route("r0", "http://r0", 8), Route("r1", "http://r1", 8)), None)
    for number in (1, 2):
        gate.begin(await gate.enter(Ticket(1, number), _far()))
    whole = await gate.enter(Ticket(1, 3), _far())
    gate.leave(whole)
    other = await gate.enter(Ticket(1, 4), _far())
    assert other.route != whole.route
    gate.begin(other)
    assert (await gate.enter(Ticket(1, 5), _far())).route == whole.route


async def test_prompts_that_would_wait_too_long_at_a_replica_wait_at_the_gateway() -> None:
    clock = Clock()
    gate = AdmissionGate(max_waiting=10, now_s=clock, prompt_wait_s=1.0)
    gate.set_routes((Route("r0", "http://r0", 32),), None)

    async def enter(number: int, *, streams: bool = True) -> ReplicaSlot:
        return await gate.enter(Ticket(1, number), clock() + 60, streams=streams)

    first = await enter(1)
    clock.now_s += 2.0
    gate.begin(first)  # half a first token a second: no more than the least number of prompts
    slot = await enter(2)
    late = asyncio.create_task(enter(10))
    whole = asyncio.create_task(enter(11, streams=False))
    while gate.waiting < 2:
        await asyncio.sleep(0)
    clock.now_s += 2.0
    gate.begin(slot)
    assert (await late).streams
    assert not whole.done()
    clock.now_s += 2.0
    gate.begin(late.result())
    assert not (await whole).streams


async def test_closing_refuses_waiting_and_new_requests() -> None:
    gate = AdmissionGate(max_waiting=10)
    (task,) = await _wait_at(gate, Ticket(1, 1))
    gate.close()
    for refusal in (task, gate.enter(Ticket(1, 2), _far())):
        with pytest.raises(RefusedError) as refused:
            await refusal
        assert refused.value.code == "stopping"


async def test_closing_refuses_a_request_whose_slot_disappeared() -> None:
    gate = AdmissionGate(max_waiting=10)
    (task,) = await _wait_at(gate, Ticket(1, 1))
    gate.set_routes((ONE,), None)
    gate.set_routes((), None)
    gate.close()
    with pytest.raises(RefusedError) as refused:
        async with asyncio.timeout(20):
            await task
    assert refused.value.code == "stopping"


async def test_a_routing_table_that_is_stale_gives_no_slot_until_it_is_set_again() -> None:
    clock = Clock()
    gate = AdmissionGate(max_waiting=10, now_s=clock, stale_s=3.0)
    assert not gate.is_stale
    gate.set_routes((ONE,), None)
    clock.now_s += 3.5
    assert gate.is_stale
    waits = asyncio.create_task(gate.enter(Ticket(1, 1), clock.now_s + 60))
    while not gate.waiting:
        await asyncio.sleep(0)
    gate.set_routes((ONE,), None)
    assert (await waits).route == ONE


async def test_a_request_with_several_sequences_takes_as_many_places() -> None:
    gate = AdmissionGate(max_waiting=10)
    gate.set_routes((Route("a", "http://a", 4),), None)
    soon_s = time.monotonic() + 10
    wide = await gate.enter(Ticket(0, 1), soon_s, 3)
    assert gate.table.outstanding("a") == 3
    waits = asyncio.create_task(gate.enter(Ticket(0, 2), soon_s, 2))
    late = asyncio.create_task(gate.enter(Ticket(0, 3), soon_s))
    await asyncio.sleep(0)
    assert gate.waiting == 3, "the second finds no room, and the third does not pass it"
    gate.leave(wide)
    slots = [await waits, await late]
    assert [slot.places for slot in slots] == [2, 1]
    assert (gate.table.outstanding("a"), gate.waiting) == (3, 0)
    for slot in slots:
        gate.leave(slot)
    assert gate.table.outstanding("a") == 0


async def test_a_request_wider_than_a_replica_takes_all_of_its_places() -> None:
    gate = AdmissionGate(max_waiting=10)
    gate.set_routes((Route("a", "http://a", 4),), None)
    soon_s = time.monotonic() + 10
    small = await gate.enter(Ticket(0, 1), soon_s)
    wide = asyncio.create_task(gate.enter(Ticket(0, 2), soon_s, 100))
    await asyncio.sleep(0)
    assert (gate.waiting, wide.done()) == (4, False)
    gate.leave(small)
    assert (await wide).places == 4
    assert gate.table.outstanding("a") == 4
    gate.leave(await wide)
    assert gate.table.outstanding("a") == 0


async def _resume_at(gate: AdmissionGate, deadline_s: float) -> asyncio.Task[ReplicaSlot]:
    before = gate.waiting
    task = asyncio.create_task(gate.resume(deadline_s))
    while gate.waiting == before:
        await asyncio.sleep(0)
    return task


async def test_a_stream_that_has_begun_goes_before_all_that_wait_and_gives_way_to_none() -> None:
    gate = AdmissionGate(max_waiting=2)
    (urgent,) = await _wait_at(gate, Ticket(0, 1))
    begun = await _resume_at(gate, _far())
    with pytest.raises(RefusedError, match="2 requests wait already"):
        await gate.enter(Ticket(0, 2), _far())
    assert not begun.done()
    gate.set_routes((ONE,), None)
    gate.leave(await begun)
    assert (await urgent).route == ONE
    assert gate.waiting == 0


async def test_a_stream_that_has_begun_is_held_while_the_gateway_drains() -> None:
    gate = AdmissionGate(max_waiting=2)
    gate.close()
    begun = await _resume_at(gate, _far())
    with pytest.raises(RefusedError, match="stopping"):
        await gate.enter(Ticket(0, 1), _far())
    gate.set_routes((ONE,), None)
    gate.leave(await begun)
    gate.set_routes((), None)
    with pytest.raises(RefusedError, match="as long as a stream may be held") as held:
        await gate.resume(time.monotonic() + 0.01)
    assert held.value.code == "waited_too_long"
    last = await _resume_at(gate, _far())
    gate.cancel_all()
    with pytest.raises(RefusedError, match="stopping"):
        await last
    assert gate.waiting == 0


async def test_a_cancelled_wait_of_a_stream_that_has_begun_gives_its_slot_back() -> None:
    gate = AdmissionGate(max_waiting=2)
    begun = await _resume_at(gate, _far())
    begun.cancel()
    gate.set_routes((ONE,), None)  # it has got the slot before it notices
    await asyncio.wait([begun])
    assert gate.table.outstanding("r0") == 0
    assert gate.waiting == 0


async def test_a_request_that_waited_is_charged_what_it_took() -> None:
    gate = AdmissionGate(max_waiting=10)
    gate.set_routes((ONE,), None)
    slot = await gate.enter(Ticket(1, 1), _far())
    assert not slot.is_charged  # nobody waited for it
    large, again = Ticket(1, 2, tenant="a", cost=100.0), Ticket(1, 3, tenant="a")
    others = [Ticket(1, number, tenant="b", cost=9.0) for number in (4, 5)]
    tasks = await _wait_at(gate, large, again, *others)
    gate.leave(slot)
    gate.settle(large, 1)  # far less than was expected
    slot = await tasks[0]
    assert slot.is_charged
    gate.leave(slot)
    gate.leave(await tasks[2])
    assert (await tasks[1]).is_charged  # its tenant is not behind the other one
    assert not tasks[3].done()
    tasks[3].cancel()
