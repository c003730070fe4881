# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook write_off, where the policy names people: their word is signed, and the history keeps the signature."""

from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import WRITE_OFF
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_public
from office import Office

REASON = "Its disk died; it isn't worth a new one"


def write_off(office: Office, *options: str, key: str | None = "carl", **variables: str) -> str:
    keys = {"tidegate_key": office.path / f"{key}.pem"} if key else {}
    return office.play("tidegate.release.write_off", *options, **{"tidegate_host": "web1"}, **keys, **variables)


@pytest.mark.thorough
def test_where_the_policy_names_people_one_of_them_signs_that_a_host_is_written_off(office: Office) -> None:
    given = {"tidegate_reason": f"'{REASON}'".replace("isn't", "is not")}
    reason = REASON.replace("isn't", "is not")
    assert "so web1 is written off with a signature; give the key of one of them" in write_off(office, key=None, **given)
    assert "the policy gives this key to nobody" in write_off(office, key="mallory", **given)
    assert "web1 is written off by carl" in write_off(office, **given)
    assert "changed=0" in write_off(office, key="dora", **given)
    with Cmdb.open(str(office.path / "cmdb.sqlite")) as cmdb:
        gone = cmdb.write_offs()["web1"]
        assert (gone["by"], gone["reason"]) == ("carl", reason)
        assert cmdb.query("[?written_off].name") == cmdb.query("[?written_off.by == 'carl']") != []
        with cmdb.read() as connection:
            data = connection.exec_driver_sql("select data ->> 'envelope' from history where event = 'written off'").scalar_one()
    sealed = open_envelope(data.encode())
    assert (sealed.statement.type, sealed.statement.predicate) == (WRITE_OFF, {"host": "web1", "reason": reason})
    keys = load_policy(office.path / "policy.yml").people["carl"].keys
    assert any(sealed.signed_by(load_public(key.pem)) for key in keys)
    assert "web1 is not written off any more" in write_off(office, key=None, write_off_state="absent")
    assert "changed=0" in write_off(office, key=None, write_off_state="absent")
