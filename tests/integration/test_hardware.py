# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of hardware: people exchange parts by work orders, and nobody believes them before it is read or a second one says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from documents import policy_of, write_document
from rack import HOSTS, Rack, build_rack
from seals import KEYS, pem, private_file

ORDERS = "select ci, old, new, state, read from work_order order by id"
PARTS = "select tag, state, substate, stockroom from asset where model like 'PSU-%' order by tag"


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with build_rack(tmp_path_factory.mktemp("rack")) as made:
        old = [MoveOrder("receive", f"P-{host}", "Contoso", f"PS-{host}", "PSU-A", stockroom="ams-1") for host in HOSTS]
        made.move(*old, *(MoveOrder("install", f"P-{host}", ci=host, slot="PSU 1") for host in HOSTS))
        for host, machine in made.machines.items():
            machine.parts = {"PSU 1": f"PS-{host}"}
        with Cmdb.open(str(made.path / "cmdb.sqlite")) as cmdb:
            (two,) = cmdb.cis(["srv2"])
            cmdb.put_cis([{"name": "srv2", "attributes": {**two["attributes"], "redundant_with": ["srv3"]}}], "test")
        yield made


def test_a_part_is_exchanged_by_people_and_read_back(rack: Rack) -> None:
    digest = rack.archive_parts("1.0", "PSU 1", ["PSU-A"], "PSU-B")
    rfc = rack.rfc("CHG0300001", "1.0", digest, "parts")
    status, said = rack.play("deploy", rfc)
    assert status != 0
    assert "new parts: 3 of PSU-B are needed and 0 are usable" in said
    rack.move(*(MoveOrder("receive", f"N-{n}", "Contoso", f"NS-{n}", "PSU-B", stockroom="ams-1") for n in (1, 2, 3)))
    status, said = rack.play("deploy", rfc)
    assert status != 0
    assert rack.deployment("CHG0300001") == "held"
    assert "work order 1, the slot PSU 1 of srv1: take out P-srv1 and put in N-1, as README.md says" in said
    assert [row[3] for row in rack.rows(ORDERS)] == ["open", "planned", "planned"]  # the others when their wave opens
    assert {row[2] for row in rack.rows(PARTS) if row[0].startswith("N-")} == {"reserved"}
    status, said = rack.play("deploy", rfc)  # nothing is done by asking again
    assert status != 0
    assert rack.swap(rfc, "srv1", "PS-srv1", "NS-2", "PSU 1")[0] != 0  # the one of another's work order
    status, said = rack.swap(rfc, "srv1", "PS-srv1", "NS-1", "PSU 1")
    assert status != 0
    assert "the slot PSU 1 of srv1 is not exchanged as it is said: its serial number is PS-srv1, and the recorded one is NS-1" in said
    rack.machines["srv1"].parts["PSU 1"] = "NS-1"
    status, said = rack.swap(rfc, "srv1", "PS-srv1", "NS-1", "PSU 1")
    assert status == 0, said
    assert rack.rows(ORDERS)[0] == ("srv1", "P-srv1", "N-1", "done", "redfish")
    assert ("P-srv1", "in_stock", "quarantine", "ams-1") in rack.rows(PARTS)
    assert ("N-1", "in_use", "", "") in rack.rows(PARTS)
    status, said = rack.play("deploy", rfc, "--forks", "1")  # or either of the two may be asked first
    assert status != 0
    # Of two that are redundant people are at one.
    assert rack.states("CHG0300001") == {"srv1": "active", "srv2": "activating", "srv3": "staged"}
    assert [row[3] for row in rack.rows(ORDERS)] == ["done", "open", "planned"]
    # Where nothing can be read it takes two people, and the same one twice is one.
    del rack.machines["srv2"].parts["PSU 1"]
    people = {name: {"roles": ["change-manager"], "keys": [{"public": pem(KEYS[name])}]} for name in ("carl", "rita")}
    plain = (rack.path / "policy.yml").read_text()
    write_document(rack.path / "policy.yml", policy_of(people=people))
    carl, rita = (str(private_file(rack.path, name)) for name in ("carl", "rita"))
    assert rack.swap(rfc, "srv2", "PS-srv2", "NS-2", "PSU 1")[0] != 0  # nobody signed
    status, said = rack.swap(rfc, "srv2", "PS-srv2", "NS-2", "PSU 1", key=carl)
    assert status == 0, said
    assert "a second person has to confirm it" in said
    assert rack.swap(rfc, "srv2", "PS-srv2", "NS-2", "PSU 1", key=carl)[0] != 0
    assert rack.rows(ORDERS)[1] == ("srv2", "P-srv2", "N-2", "claimed", "")
    assert ("N-2", "in_stock", "reserved", "ams-1") in rack.rows(PARTS)
    status, said = rack.swap(rfc, "srv2", "PS-srv2", "NS-2", "PSU 1", key=rita)
    assert status == 0, said
    assert rack.rows(ORDERS)[1] == ("srv2", "P-srv2", "N-2", "done", "person")
    (rack.path / "policy.yml").write_text(plain)


def test_an_audit_asks_the_same_bmcs_again(rack: Rack) -> None:
    """Of what one says nothing of, as in srv2, nothing is known."""
    rfc = str(rack.path / "CHG0300001.yml")
    status, said = rack.play("audit", rfc, "--check")
    assert status == 0, said
    first, third = (rack.machines[name].parts for name in ("srv1", "srv3"))
    was = first["PSU 1"], third["PSU 1"]
    first["PSU 1"], third["PSU 1"] = "", "PS-99"
    status, said = rack.play("audit", rfc, "--check")
    first["PSU 1"], third["PSU 1"] = was
    assert status != 0
    assert "3 of 3 hosts were compared with the CMDB and the DSL: 2 differences" in said
    assert "srv1: nothing is in the slot PSU 1, and NS-1 is recorded; find out who took it out" in said
    assert "srv3: in the slot PSU 1 is PS-99, and PS-srv3 is recorded; find out which unit is there" in said


def test_back_out_cancels_what_nobody_did_and_has_people_undo_the_rest(rack: Rack) -> None:
    rfc = str(rack.path / "CHG0300001.yml")
    status, said = rack.play("backout", rfc)
    assert status != 0
    assert rack.states("CHG0300001") == {"srv1": "owed", "srv2": "owed", "srv3": "staged"}
    assert [(row[0], row[3]) for row in rack.rows(ORDERS)[:3]] == [("srv1", "done"), ("srv2", "done"), ("srv3", "planned")]
    assert sorted(rack.rows(ORDERS)[3:]) == [("srv1", "N-1", "P-srv1", "open", ""), ("srv2", "N-2", "P-srv2", "open", "")]
    rack.machines["srv1"].parts["PSU 1"] = "PS-srv1"
    status, said = rack.swap(rfc, "srv1", "NS-1", "PS-srv1", "PSU 1")
    assert status == 0, said
    status, said = rack.play("backout", rfc, "-e", "tidegate_accept=srv2")
    assert status == 0, said
    assert rack.states("CHG0300001") == {"srv1": "backed_out", "srv2": "accepted", "srv3": "staged"}
    assert {row[3] for row in rack.rows(ORDERS)[2:]} == {"cancelled", "done"}
    assert rack.deployment("CHG0300001") == "backed_out"
    assert [row[1:3] for row in rack.rows(PARTS) if row[0] in ("N-1", "N-2", "N-3")] == [
        ("in_stock", "quarantine"),
        ("in_use", ""),
        ("in_stock", "available"),
    ]
