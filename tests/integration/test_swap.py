# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who says that a unit was exchanged is not believed: it is read, or said by two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.hardware import HardwareHost
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import list_units, move_units, reserve_spares
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.spare_rules import SpareRules
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.spares import Exposed
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder, Unit
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.work_order import WorkOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.work_orders import (
    fulfil,
    list_work_orders,
    open_work_order,
    plan_work_order,
    plan_work_orders,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.hardware import PartChange
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, NotFoundError, StateError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import SWAP
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceError, DeviceIdentity, SilentError
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Policy
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.backout import order_backout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import verify_cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.swap import Swap, confirm_swap
from seals import KEYS
from seals import policy as seals_policy

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
GONE = Holder("gone", "elsewhere", 1, 1, "1")
CHANGES = [PartChange(slot, ("OLD",), "NEW", "how.md") for slot in ("PSU 1", "PSU 2")]
SAID = Swap("web1", "PSU 1", "S-1", "S-7", "as ordered")


def nobody(_attributes: Mapping[str, Any], _slot: str, _serial: str) -> None:
    """No BMC says what is in a slot."""


@dataclass
class Bed:
    """A held deployment of parts for two CIs, whose first work order is open."""

    cmdb: Cmdb
    journal: Journal
    run: Run
    policy: Policy = field(default_factory=lambda: replace(seals_policy(), people={}))

    def swap(
        self, said: Swap = SAID, found: DeviceIdentity | Exception | None = None, key: str = "", number: str = "CHG0001", write: bool = True
    ) -> dict[str, Any]:
        def read(_attributes: Mapping[str, Any], slot: str, _unit: Unit | None) -> DeviceIdentity | None:
            assert slot == said.slot
            if isinstance(found, Exception):
                raise found
            return found

        return confirm_swap(self.cmdb, self.policy, number, said, read, KEYS[key] if key else None, NOW, write)

    @property
    def orders(self) -> list[tuple[str, str]]:
        with self.cmdb.read() as connection:
            return [(one.ci, str(one.state)) for one in list_work_orders(connection)]

    @property
    def places(self) -> dict[str, str]:
        with self.cmdb.read() as connection:
            return {unit.tag: str(unit) for unit in list_units(connection)}

    def history(self) -> list[Any]:
        table = schema().history
        with self.cmdb.read() as connection:
            return list(connection.execute(sa.select(table).where(table.c.event.like("work order %")).order_by(table.c.seq)))


def move(cmdb: Cmdb, *orders: MoveOrder) -> None:
    with cmdb.begin() as connection:
        move_units(connection, orders, "ann", NOW, True)


@pytest.fixture
def bed(cmdb_url: str) -> Iterator[Bed]:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": name, "class": "server"} for name in ("web1", "web2", "web3")], actor="test")
        units = [("A-1", "S-1", "OLD"), ("A-2", "S-2", "OLD"), ("A-7", "S-7", "NEW"), ("A-8", "S-8", "NEW"), ("A-9", "S-9", "NEW")]
        move(cmdb, *(MoveOrder("receive", tag, "Contoso", serial, model, stockroom="ams") for tag, serial, model in units))
        move(cmdb, MoveOrder("install", "A-1", ci="web1", slot="PSU 1"), MoveOrder("install", "A-2", ci="web2", slot="PSU 1"))
        journal = Journal(cmdb)
        package = {"name": "parts", "version": "1.0", "digest": "sha256:" + "a" * 64}
        exposed = [Exposed(f"web{n}", "NEW", "", "PSU 1", f"A-{n}", "how.md") for n in (1, 2)]

        def along(connection: sa.Connection, number: int) -> None:
            for what in (reserve_spares, plan_work_orders):
                args = ("ann", NOW) if what is reserve_spares else (NOW,)
                what(connection, number, exposed, SpareRules(), "normal", *args)

        run = journal.begin("CHG0001", package, [["web1"], ["web2"]], Rollout(hardware=True, tree=False), GONE, NOW, along)
        with cmdb.begin() as connection:
            plan_work_orders(connection, run.deployment, exposed, SpareRules(), "normal", NOW)  # again, and there is one for each
            open_work_order(connection, list_work_orders(connection)[0], NOW)
        journal.hold(run, "people have to act", NOW)
        journal.release_lease(run, NOW)
        yield Bed(cmdb, journal, run)
        assert verify_cmdb(cmdb, []).findings == [], "the history comes to what is there"


def test_what_is_read_is_done_in_one_transaction(bed: Bed) -> None:
    assert bed.orders == [("web1", "open"), ("web2", "planned")]
    before = bed.places
    assert before["A-7"] == before["A-8"] == "in stock ams, reserved"
    assert bed.swap(found=DeviceIdentity("S-7", "its maker's name for it"), write=False)["changed"]
    assert bed.places == before
    done = bed.swap(found=DeviceIdentity("S-7", "its maker's name for it"))
    assert (done["state"], done["work_order"]) == ("done", 1)
    assert bed.orders == [("web1", "done"), ("web2", "planned")]
    assert bed.places == {**before, "A-1": "in stock ams, quarantine", "A-7": "in use by web1 (PSU 1)"}
    (line,) = bed.history()
    assert line.data["read"] == "redfish"
    assert not bed.swap(found=DeviceIdentity("S-7", ""))["changed"]
    with bed.cmdb.begin() as connection, pytest.raises(StateError, match="is done and can't become open"):
        open_work_order(connection, list_work_orders(connection)[0], NOW)


def test_nothing_is_recorded_of_what_is_not_so(bed: Bed) -> None:
    before = bed.places
    refused: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (StateError, "its serial number is S-1, and the recorded one is S-7", {"found": DeviceIdentity("S-1", "")}),
        (StateError, "its serial number is not said", {"found": DeviceIdentity("", "NEW")}),
        (DeviceError, "not there", {"found": DeviceError("not there")}),
        (TidegateError, "the unit that comes in is A-7 with the serial number S-7, and not 'S-8'", {"said": replace(SAID, new="S-8")}),
        (TidegateError, "the unit that comes out is A-1", {"said": replace(SAID, old="S-2")}),
        (TidegateError, "the unit that comes out is A-1", {"said": replace(SAID, old="")}),
        (StateError, "wants nothing exchanged in the slot PSU 1 of web2", {"said": replace(SAID, host="web2", old="S-2", new="S-8")}),
        (StateError, "wants nothing exchanged in the slot PSU 2 of web1", {"said": replace(SAID, slot="PSU 2")}),
        (NotFoundError, "web3 is not part of CHG0001#1", {"said": replace(SAID, host="web3")}),
        (NotFoundError, "CHG0002 was never deployed", {"number": "CHG0002"}),
    ]
    for kind, match, asked in refused:
        with pytest.raises(kind, match=match):
            bed.swap(**asked)
    assert (bed.places, bed.history()) == (before, [])


def test_where_nothing_can_be_read_two_people_say_so(bed: Bed, cmdb_url: str, tmp_path: Path) -> None:
    bed.policy = seals_policy()
    with pytest.raises(TidegateError, match="the policy names people"):
        bed.swap()
    before = bed.places
    assert bed.swap(key="carl")["state"] == "claimed"
    assert bed.places == before
    with pytest.raises(StateError, match="a second person has to confirm it"):
        bed.swap(key="carl")
    with pytest.raises(TidegateError):
        bed.swap(key="mallory")
    # Whoever wants it back has to know first what is there.
    state, said = HardwareHost(bed.cmdb, bed.journal.deployment(bed.run.deployment), "web1", lambda: CHANGES, nobody).back_out()
    assert state is HostState.OWED
    assert "carl says that it was done, and a second person has to confirm that" in said
    (path := tmp_path / "rfc.yml").write_text("schema: 1\nnumber: CHG0001\n")
    request = RunRequest(str(path), Reach(["web1", "web2"]), write=True, interrupted=str)
    with pytest.raises(StateError, match="nobody knows yet what stays there: work order 1"):
        order_backout(request, cmdb_url=cmdb_url, policy_path=None, reason="it stays", now=NOW, accepted=["web1"])
    assert bed.swap(key="rita")["state"] == "done"
    assert bed.places["A-7"] == "in use by web1 (PSU 1)"
    first, second = (open_envelope(line.data["envelope"].encode()) for line in bed.history())
    assert (first.statement.type, second.statement.predicate["new"]) == (SWAP, "S-7")
    assert first.signed_by(KEYS["carl"].public_key)
    assert second.signed_by(KEYS["rita"].public_key)


def test_people_are_at_one_part_of_a_machine_at_a_time_there_and_back(bed: Bed) -> None:
    move(
        bed.cmdb,
        MoveOrder("receive", "A-3", "Contoso", "S-3", "OLD", stockroom="ams"),
        MoveOrder("install", "A-3", ci="web1", slot="PSU 2"),
    )
    number = bed.run.deployment
    with bed.cmdb.begin() as connection:
        plan_work_order(connection, WorkOrder(number, "web1", "PSU 2", "A-3", "A-9"))
    parts = HardwareHost(bed.cmdb, bed.journal.deployment(number), "web1", lambda: CHANGES, nobody)
    state, said = parts.activate()
    assert (state, bed.orders) == (None, [("web1", "open"), ("web2", "planned"), ("web1", "planned")])
    assert "work order 1, the slot PSU 1 of web1: take out A-1 and put in A-7, as how.md says; when it is done" in said
    assert said.endswith(", and 1 more after that")
    done = bed.swap(found=DeviceIdentity("S-7", ""))
    assert "before that, work order 3, the slot PSU 2 of web1: take out A-3 and put in A-9" in done["msg"]
    assert parts.activate()[0] is None
    second = Swap("web1", "PSU 2", "S-3", "S-9", "")
    bed.swap(second, found=DeviceIdentity("S-9", ""))
    assert parts.activate() == (HostState.STARTED, "")
    assert parts.confirm() == (HostState.ACTIVE, "")
    # Back, the last one first; and while people are at what is redundant with it, at none.
    with bed.cmdb.begin() as connection:
        open_work_order(connection, list_work_orders(connection)[1], NOW)
    bed.cmdb.put_cis([{"name": "web2", "attributes": {"redundant_with": ["web1"]}}], "test")
    state, said = parts.back_out()
    assert (state, said) == (
        HostState.OWED,
        "it waits for work order 2, the slot PSU 1 of web2: take out A-2 and put in A-8, as how.md says",
    )
    assert [one for one in bed.orders if one[1] == "open"] == [("web2", "open")]
    bed.cmdb.put_cis([{"name": "web2", "attributes": {}}], "test")
    assert parts.back_out()[0] is HostState.OWED
    assert [one for one in bed.orders if one[0] == "web1"] == [("web1", "done"), ("web1", "done"), ("web1", "open"), ("web1", "planned")]
    bed.swap(Swap("web1", "PSU 2", "S-9", "S-3", ""), found=DeviceIdentity("S-3", ""))
    bed.swap(Swap("web1", "PSU 1", "S-7", "S-1", ""), found=DeviceIdentity("S-1", ""))
    assert parts.back_out() == (HostState.BACKED_OUT, "")
    assert bed.places["A-1"] == "in use by web1 (PSU 1)"
    lacks = [f"{tag}, a OLD, in the slot PSU {slot} of web1, and not a NEW" for slot, tag in ((1, "A-1"), (2, "A-3"))]
    assert parts.confirm() == (HostState.STUCK, f"the hardware storage has {'; '.join(lacks)}; find out which unit is there")
    # Nor does a host come up that has no work order, and does not have the part any more.
    assert HardwareHost(bed.cmdb, bed.journal.deployment(number), "web3", lambda: CHANGES, nobody).activate()[0] is HostState.FAILED


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        (DeviceIdentity("S-7", "whatever"), HostState.ACTIVE, ""),
        (DeviceIdentity("S-1", ""), HostState.STUCK, "A-7 is not in the slot PSU 1 any more: its serial number is S-1, and the recorded"),
        (DeviceIdentity("", ""), HostState.STUCK, "A-7 is not in the slot PSU 1 any more: its serial number is not said"),
        (None, HostState.ACTIVE, "what is in the slot PSU 1 was not read again: its BMC does not say it"),
        (SilentError("bmc1 can't be reached"), HostState.ACTIVE, "what is in the slot PSU 1 was not read again: bmc1 can't be reached"),
    ],
)
def test_the_second_look_reads_again_what_is_in_the_slot(bed: Bed, found: Any, state: HostState, words: str) -> None:
    asked = []

    def read(attributes: Mapping[str, Any], slot: str, serial: str) -> DeviceIdentity | None:
        asked.append((attributes["redfish"], slot, serial))
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]  # of a parameter of the test

    bed.swap(found=DeviceIdentity("S-7", ""))
    bed.cmdb.put_cis([{"name": "web1", "attributes": {"redfish": "https://bmc1"}}], "test")
    got, said = HardwareHost(bed.cmdb, bed.journal.deployment(bed.run.deployment), "web1", lambda: CHANGES[:1], read).confirm()
    assert (got, asked) == (state, [("https://bmc1", "PSU 1", "S-7")])
    assert said.startswith(words)
    assert bool(said) is bool(words)


def test_a_deployment_that_somebody_drives_is_left_alone(bed: Bed) -> None:
    bed.journal.take_over(bed.run.deployment, GONE, NOW, ordered=True)
    with pytest.raises(ConflictError, match="gone@elsewhere"):
        bed.swap(found=DeviceIdentity("S-7", ""))


def test_units_that_went_elsewhere_meanwhile_are_not_exchanged(bed: Bed) -> None:
    with bed.cmdb.begin() as connection:
        (order, _other) = list_work_orders(connection)
    move(bed.cmdb, MoveOrder("remove", "A-1", stockroom="ams"))
    before = bed.places
    with pytest.raises(ConflictError, match="A-1 is not in the slot PSU 1 of web1"), bed.cmdb.begin() as connection:
        fulfil(bed.cmdb, connection, order, "ann", "redfish", "", NOW, {})
    move(bed.cmdb, MoveOrder("inspect", "A-1", substate="available"), MoveOrder("install", "A-1", ci="web1", slot="PSU 1"))
    with pytest.raises(ConflictError, match="A-8 is in stock ams, reserved, so"), bed.cmdb.begin() as connection:
        fulfil(bed.cmdb, connection, replace(order, new="A-8", deployment=99), "ann", "redfish", "", NOW, {})
    assert bed.orders[0] == ("web1", "open")
    assert {**bed.places, "A-1": before["A-1"]} == before
