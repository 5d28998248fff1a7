from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.fixtures.s2_manager import S2Manager, envelope, new
from tests.grid.s2.conftest import DEFAULT_W, SETTINGS, Controller, site_now

from steppe.errors import ConfigError
from steppe.grid.s2.kept import KeptInstructions
from steppe.grid.s2.link import Manager, S2Link
from steppe.grid.s2.manager import ResourceManager
from steppe.grid.s2.messages import NO_MESSAGE, when


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.005)


async def constraints(cem: S2Manager) -> str:
    return str((await cem.wait_for("PEBC.PowerConstraints")).id)


async def status_of(cem: S2Manager, id_: str, status: str) -> None:
    def is_so() -> bool:
        found = [
            str(each.status_type.value)
            for each in cem.of("InstructionStatusUpdate")
            if str(each.instruction_id) == id_
        ]
        return found[-1:] == [status]

    await until(is_so)


async def test_a_session_begins_with_what_the_site_is_and_may_be_asked(
    cem: S2Manager, link: S2Link, controller: Controller
) -> None:
    found = await cem.wait_for("PEBC.PowerConstraints")
    assert cem.tokens == ["Bearer s3cret"]
    details = cem.of("ResourceManagerDetails")[0]
    assert details.name == "steppe site"
    assert [each.value for each in details.available_control_types] == [
        "POWER_ENVELOPE_BASED_CONTROL",
        "OPERATION_MODE_BASED_CONTROL",
    ]
    ranges = [
        (
            each.limit_type.value,
            each.range_boundary.start_of_range,
            each.range_boundary.end_of_range,
            each.abnormal_condition_only,
        )
        for each in found.allowed_limit_ranges
    ]
    assert ranges == [
        ("UPPER_LIMIT", 500.0, 1500.0, False),
        ("LOWER_LIMIT", 0.0, 0.0, False),
        ("UPPER_LIMIT", 0.0, 500.0, True),
    ]
    assert controller.watts == DEFAULT_W


async def test_an_envelope_becomes_a_limit_over_time(
    cem: S2Manager, link: S2Link, controller: Controller
) -> None:
    asked = envelope(await constraints(cem), when(time.time()), (3600, 600.0), (3600, 900.0))
    assert (await cem.send(asked)).status.value == "OK"
    found = controller.limits.in_force()
    assert found is not None
    assert (found.watts, found.name) == (600.0, "s2/envelope")
    later = [controller.limits.in_force(s) for s in (5400.0, 8000.0)]
    assert [None if each is None else each.watts for each in later] == [900.0, DEFAULT_W]
    await status_of(cem, asked["id"], "ACCEPTED")
    await link.step(site_now())
    await status_of(cem, asked["id"], "STARTED")
    measured = (await cem.wait_for("PowerMeasurement")).values[0]
    assert measured.value == 1000.0


async def test_an_envelope_that_is_revoked_leaves_the_default(
    cem: S2Manager, link: S2Link, controller: Controller
) -> None:
    asked = envelope(await constraints(cem), when(time.time()), (3600, 600.0))
    await cem.send(asked)
    revoked = new("RevokeObject", object_type="PEBC.Instruction", object_id=asked["id"])
    assert (await cem.send(revoked)).status.value == "OK"
    assert controller.watts == DEFAULT_W
    await status_of(cem, asked["id"], "REVOKED")
    revoked = new("RevokeObject", object_type="PEBC.Instruction", object_id=asked["id"])
    assert (await cem.send(revoked)).status.value == "INVALID_CONTENT"


async def test_an_instruction_that_is_sent_twice_changes_nothing(
    cem: S2Manager, link: S2Link, controller: Controller
) -> None:
    asked = envelope(await constraints(cem), when(time.time()), (3600, 600.0))
    for _ in range(2):
        assert (await cem.send({**asked, "message_id": str(uuid4())})).status.value == "OK"
    other = envelope(asked["power_constraints_id"], when(time.time()), (60, 900.0), id=asked["id"])
    assert (await cem.send(other)).status.value == "INVALID_CONTENT"
    assert controller.watts == 600.0


Spoil = Callable[[dict[str, Any]], Any]
AN_HOUR_AGO = when(time.time() - 3600)


def spoilt(**fields: Any) -> Spoil:
    return lambda asked: {**asked, **fields}


def with_element(**fields: Any) -> Spoil:
    def spoil(asked: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(asked))
        found["power_envelopes"][0]["power_envelope_elements"][0] |= fields
        return found

    return spoil


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda _: "no json", "INVALID_DATA"),
        (lambda asked: json.dumps(asked).replace("600.0", "NaN"), "INVALID_DATA"),
        (lambda _: "[]", "INVALID_MESSAGE"),
        (spoilt(message_type="PEBC.Dance"), "INVALID_MESSAGE"),
        (spoilt(message_type=["a"]), "INVALID_MESSAGE"),
        (spoilt(power_envelopes=[]), "INVALID_MESSAGE"),
        (spoilt(execution_time="soon"), "INVALID_MESSAGE"),
        (spoilt(execution_time=AN_HOUR_AGO), "INVALID_CONTENT"),
        (spoilt(execution_time="2999-01-01T00:00:00Z"), "INVALID_CONTENT"),
        (spoilt(power_constraints_id=str(uuid4())), "INVALID_CONTENT"),
        (spoilt(message_type="OMBC.Instruction"), "INVALID_MESSAGE"),
        (with_element(upper_limit=499.0), "INVALID_CONTENT"),
        (with_element(upper_limit=-1.0), "INVALID_CONTENT"),
        (with_element(upper_limit=1501.0), "INVALID_CONTENT"),
        (with_element(upper_limit=True), "INVALID_MESSAGE"),
        (with_element(lower_limit=100.0), "INVALID_CONTENT"),
        (with_element(duration=0), "INVALID_CONTENT"),
        (with_element(duration=-5), "INVALID_MESSAGE"),
    ],
)
async def test_a_wrong_message_is_answered_and_changes_no_limit(
    cem: S2Manager, link: S2Link, controller: Controller, spoil: Spoil, status: str
) -> None:
    id_ = await constraints(cem)
    await cem.send(envelope(id_, when(time.time()), (1800, 800.0)))
    found = spoil(envelope(id_, when(time.time()), (1800, 600.0)))
    answer = await cem.send(found)
    assert answer.status.value == status
    assert answer.diagnostic_label
    if isinstance(found, str):
        assert str(answer.subject_message_id) == NO_MESSAGE
    assert controller.watts == 800.0


async def test_a_limit_below_the_floor_is_for_an_abnormal_condition(
    cem: S2Manager, link: S2Link, controller: Controller
) -> None:
    id_ = await constraints(cem)
    asked = envelope(id_, when(time.time()), (3600, 0.0), abnormal_condition=True)
    assert (await cem.send(asked)).status.value == "OK"
    assert controller.watts == 0.0


async def test_without_the_controller_an_instruction_is_to_be_sent_again(
    cem: S2Manager, link: S2Link, controller: Controller
) -> None:
    asked = envelope(await constraints(cem), when(time.time()), (3600, 600.0))
    controller.away = True
    assert (await cem.send(asked)).status.value == "TEMPORARY_ERROR"
    controller.away = False
    assert (await cem.send(asked)).status.value == "OK"
    assert controller.watts == 600.0


async def test_modes_have_prices_and_times_and_become_limits(
    cem: S2Manager, link: S2Link, controller: Controller
) -> None:
    cem.choice = "OPERATION_MODE_BASED_CONTROL"
    described = await cem.wait_for("OMBC.SystemDescription")
    modes = [
        (
            each.power_ranges[0].start_of_range,
            each.power_ranges[0].end_of_range,
            each.running_costs.end_of_range,
            each.abnormal_condition_only,
        )
        for each in described.operation_modes
    ]
    assert modes == [
        (1000.0, 1500.0, 0.0, False),
        (700.0, 1000.0, 0.0, False),
        (500.0, 700.0, 2.0, False),
        (0.0, 500.0, 2.0, True),
    ]
    ids = [str(each.id) for each in described.operation_modes]
    down = next(t for t in described.transitions if (str(t.from_), str(t.to)) == (ids[0], ids[1]))
    assert down.transition_duration.root == round(1000 * (10.0 + 800.0 / 100.0))
    status = await cem.wait_for("OMBC.Status")
    assert (status.active_operation_mode_id.root, status.operation_mode_factor) == (ids[0], 1.0)
    fields = {"execution_time": when(time.time()), "operation_mode_id": ids[2]}
    asked = new(
        "OMBC.Instruction",
        id=str(uuid4()),
        operation_mode_factor=0.5,
        abnormal_condition=False,
        **fields,
    )
    assert (await cem.send(asked)).status.value == "OK"
    assert controller.watts == 600.0
    await link.step(site_now(1000.0, 600.0))
    await status_of(cem, asked["id"], "STARTED")
    await link.step(site_now(600.0, 600.0))
    await status_of(cem, asked["id"], "SUCCEEDED")
    for wrong in ({"operation_mode_factor": 1.5}, {"operation_mode_id": ids[3]}):
        bad = {**asked, "id": str(uuid4()), "message_id": str(uuid4()), **wrong}
        assert (await cem.send(bad)).status.value == "INVALID_CONTENT"
    assert controller.watts == 600.0


async def test_another_control_type_lifts_the_limit_of_the_one_before(
    cem: S2Manager, link: S2Link, controller: Controller
) -> None:
    await cem.send(envelope(await constraints(cem), when(time.time()), (3600, 500.0)))
    assert controller.watts == 500.0
    await cem.send(new("SelectControlType", control_type="NO_SELECTION"))
    assert controller.watts == DEFAULT_W
    again = envelope(str(uuid4()), when(time.time()), (3600, 500.0))
    assert (await cem.send(again)).status.value == "INVALID_CONTENT"


async def test_a_control_type_that_is_not_offered_is_refused(cem: S2Manager, link: S2Link) -> None:
    await cem.wait_for("PEBC.PowerConstraints")
    found = await cem.send(new("SelectControlType", control_type="FILL_RATE_BASED_CONTROL"))
    assert found.status.value == "INVALID_CONTENT"


async def test_a_lost_connection_comes_back_and_lifts_nothing(
    cem: S2Manager, link: S2Link, controller: Controller
) -> None:
    await cem.send(envelope(await constraints(cem), when(time.time()), (3600, 500.0)))
    await cem.hang_up()
    await cem.wait_for("PEBC.PowerConstraints", 1)
    assert controller.watts == 500.0
    assert cem.of("PEBC.PowerConstraints")[0].id != cem.of("PEBC.PowerConstraints")[1].id
    old = envelope(str(cem.of("PEBC.PowerConstraints")[0].id), when(time.time()), (60, 900.0))
    assert (await cem.send(old)).status.value == "INVALID_CONTENT"


async def test_after_a_restart_a_later_instruction_leaves_the_lower_limit_until_then(
    cem: S2Manager, link: S2Link, controller: Controller
) -> None:
    await cem.send(envelope(await constraints(cem), when(time.time()), (7200, 500.0)))
    await link.stop()
    kept = KeptInstructions(controller.folder / "s2.json")
    again = ResourceManager(SETTINGS, controller, kept)
    place = Manager(cem.url, retry_s=(0.02, 0.05))
    second = S2Link(place, again, lambda: controller.limits.heard("s2"))
    await second.step(site_now())
    second.start()
    found = await cem.wait_for("PEBC.PowerConstraints", 1)
    later = envelope(str(found.id), when(time.time() + 3600), (3600, 1400.0))
    assert (await cem.send(later)).status.value == "OK"
    assert controller.watts == 500.0
    then = controller.limits.in_force(5400.0)
    assert then is not None
    assert then.watts == 1400.0
    await second.stop()


async def test_after_a_loss_what_was_asked_before_is_at_most_the_default_until_it_is_repeated(
    cem: S2Manager, link: S2Link, speaks: ResourceManager, controller: Controller
) -> None:
    id_ = await constraints(cem)
    await cem.send(envelope(id_, when(time.time()), (7200, 1400.0)))
    assert controller.watts == 1400.0
    speaks.lost(time.time())
    later = envelope(id_, when(time.time() + 3600), (3600, 1300.0))
    assert (await cem.send(later)).status.value == "OK"
    assert controller.watts == DEFAULT_W
    then = controller.limits.in_force(5400.0)
    assert then is not None
    assert then.watts == 1300.0
    await cem.send(envelope(id_, when(time.time()), (3000, 1400.0)))
    assert controller.watts == 1400.0


async def test_a_file_of_instructions_that_is_damaged_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "s2.json").write_text("{")
    assert KeptInstructions(tmp_path / "s2.json").read() == {}


async def test_instructions_before_the_handshake_are_refused(speaks: ResourceManager) -> None:
    speaks.opened()
    asked = json.dumps(envelope(str(uuid4()), when(time.time()), (60, 900.0)))
    (answer,) = await speaks.received(asked, time.time())
    assert json.loads(answer)["status"] == "INVALID_CONTENT"


async def test_a_version_that_is_not_spoken_closes_the_connection(speaks: ResourceManager) -> None:
    speaks.opened()
    found = new("HandshakeResponse", selected_protocol_version="7.0.0")
    (answer,) = await speaks.received(json.dumps(found), time.time())
    assert json.loads(answer)["status"] == "INVALID_CONTENT"
    assert "7.0.0" in speaks.closing


@pytest.mark.parametrize("url", ["ws://cem.example/s2", "http://127.0.0.1/", "wss://", "cem"])
def test_a_manager_that_others_could_pretend_to_be_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="asked for a wss URL"):
        Manager(url)
