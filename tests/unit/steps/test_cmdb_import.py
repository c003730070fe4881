# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an inventory becomes CIs, and what of it stays where it is."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.action import cmdb_import
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.ci_changes import checked, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_import import (
    BROUGHT,
    GROUPS,
    Import,
    InventoryHost,
    describe_import,
    plan_import,
)

WEB = InventoryHost("web1", ("ams", "server"), {"ansible_host": "192.0.2.1", "http_port": 80}, frozenset({"vaulted"}))


def known(found: Import) -> list[dict[str, Any]]:
    """The CIs of a CMDB into which this was put."""
    return [{"name": row["name"], "attributes": row["attributes"]} for row in found.rows]


def test_a_host_becomes_a_ci_with_its_variables_and_groups() -> None:
    found = plan_import([WEB], [], {"class": ["server"], "site": ["ams"]})
    attributes = {"ansible_host": "192.0.2.1", "http_port": 80, GROUPS: ["ams", "server"]}
    assert found.rows[0]["attributes"].pop(BROUGHT).keys() == {"ansible_host", "http_port"}
    assert found.rows == [{"name": "web1", "attributes": attributes, "class": "server", "site": "ams"}]
    assert found.not_taken == {"web1": {"vaulted": "it is in a vault"}}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("db_password", "x", "looks like a secret"),
        ("api_key", "x", "looks like a secret"),
        ("ansible_become_pass", "x", "looks like a secret"),
        ("db", {"user": "me", "password": "x"}, "looks like a secret"),
        ("db_url", "postgresql://me:word@db/x", "looks like a secret"),
        ("pem", ["-----BEGIN PRIVATE KEY-----\n"], "looks like a secret"),
        ("db_pwd", "x", "looks like a secret"),
        ("root_pw", "x", "looks like a secret"),
        ("db_pw_old", "x", "looks like a secret"),
        ("options", "--passphrase=x", "looks like a secret"),
        ("storage", "AccountName=a;AccountKey=x", "looks like a secret"),
        ("address", "https://example.org/x?sv=1&sig=x", "looks like a secret"),
        ("header", "Authorization: Basic x", "looks like a secret"),
        ("header", "Bearer 0123456789abcdef", "looks like a secret"),
        ("root", "$6$salt$hash", "looks like a secret"),
        ("snmp_community", "x", "looks like a secret"),
        ("repository", "https://ghp_0123@example.org/x.git", "looks like a secret"),
        ("db_url", "postgresql://me:a/word@db/x", "looks like a secret"),
        ("armour", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "looks like a secret"),
        ("environment_of_app", ["LANG=C", "DB_PASSWORD=word"], "looks like a secret"),
        ("connection_of_app", "host=db password = word", "looks like a secret"),
        ("env", [{"name": "DB_PASSWORD", "value": "word"}], "looks like a secret"),
        ("greeting", "hello {{ name }}", "is a template"),
        ("since", object(), "can't hold"),
        ("tidegate_ci", {}, "can't be an attribute"),
        ("class", "x", "can't be an attribute"),
    ],
)
def test_what_is_not_taken_is_named_with_the_reason_and_without_the_value(name: str, value: object, why: str) -> None:
    found = plan_import([InventoryHost("web1", (), {name: value})], [], {})
    assert found.rows == [{"name": "web1", "attributes": {GROUPS: [], BROUGHT: {}}}]
    said = describe_import(found, plan({}, checked(found.rows)), dry_run=False)
    assert f"{name} was not taken, for it {why}" in said.replace("the CMDB can't hold its value", "it can't hold")
    assert "word" not in said.replace("password", "")


def test_where_a_secret_is_is_none() -> None:
    variables = {"ansible_ssh_private_key_file": "/home/me/.ssh/id", "proxy": "http://proxy:3128", "mail": "me@example.org"}
    variables |= {"repository": "ssh://git@example.org/x.git", "env": [{"name": "LANG", "value": "C"}]}
    assert plan_import([InventoryHost("web1", (), variables)], [], {}).not_taken == {}


def test_a_second_time_nothing_changes_and_what_others_entered_stays() -> None:
    found = plan_import([WEB], [], {})
    cis = known(found)
    cis[0]["attributes"]["rack"] = "r12"
    again = plan_import([WEB], cis, {})
    put = plan({ci["name"]: ci for ci in cis}, checked(again.rows))
    assert (put.created, put.updated, put.unchanged) == ([], [], ["web1"])


def test_what_the_inventory_has_no_more_goes_and_what_somebody_else_set_stays() -> None:
    def web(**variables: Any) -> InventoryHost:
        return InventoryHost("web1", (), variables)

    ci: dict[str, Any] = {"name": "web1", "attributes": {"rack": "r12", "tier": 1, "zone": "a"}}  # somebody's

    def imported(host: InventoryHost) -> Import:
        found = plan_import([host], [ci], {})
        ci["attributes"] = checked(found.rows)[0]["attributes"]
        return found

    found = imported(web(rack="r99", zone="a", port=80, users=["ann"], motd={1: "x"}))
    assert found.not_taken == {"web1": {"rack": "somebody has set another value in the CMDB"}}
    assert "rack was not taken, for somebody has set another value in the CMDB: web1; take that away with tidegate.release.cmdb_ci" in (
        describe_import(found, plan({}, checked(found.rows)), dry_run=False)
    )
    had = ci["attributes"]
    assert {name: had[name] for name in ("rack", "tier", "zone", "port")} == {"rack": "r12", "tier": 1, "zone": "a", "port": 80}
    had["users"] = ["bob"]  # by somebody, after the import
    found = imported(web(port=81, users=["ann"]))
    assert (found.not_taken["web1"].keys(), found.dropped) == ({"users"}, {"web1": ["motd"]})
    said = describe_import(found, plan({}, checked(found.rows)), dry_run=False)
    assert "motd was taken away, for it is not to come from the inventory any more: web1" in said
    found = imported(web(port="{{ of_web }}"))  # nor what is not taken any more
    assert found.dropped == {"web1": ["port"]}
    attributes = ci["attributes"]
    assert attributes == {"rack": "r12", "tier": 1, "zone": "a", "users": ["bob"], GROUPS: [], BROUGHT: {}}


def test_hosts_that_are_gone_are_named_and_those_that_never_came_from_an_inventory_are_not() -> None:
    cis = [{"name": "web9", "attributes": {GROUPS: ["ams"]}}, {"name": "rack1", "attributes": {}}]
    found = plan_import([WEB], cis, {})
    assert found.gone == ["web9"]
    assert "not in the inventory any more: web9" in describe_import(found, plan({}, checked(found.rows)), dry_run=True)


def test_what_the_inventory_of_the_cmdb_has_to_list_is_named() -> None:
    found = plan_import([InventoryHost("web1", (), {"ansible_host": "192.0.2.1", "ansible_become": True})], [], {})
    said = describe_import(found, plan({}, checked(found.rows)), dry_run=False)
    assert "ansible_become: says how Ansible connects, so it is a variable of a host only where the inventory file" in said
    assert "ansible_host" not in said


def test_a_group_that_nobody_is_in_and_a_host_with_two_sites_are_faults() -> None:
    with pytest.raises(DocumentError) as caught:
        plan_import([WEB], [], {"site": ["ams", "server"], "class": ["nobody"]})
    assert "the group nobody: no host is in it" in str(caught.value)
    assert "web1: it is in ams and server, and has one site" in str(caught.value)


def test_what_somebody_enters_while_it_is_imported_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cmdb = Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True)
    cmdb.put_cis([{"name": "web1", "attributes": {"rack": "r12"}}], "test")
    person = threading.Thread(target=lambda: cmdb.put_cis([{"name": "web1", "attributes": {"rack": "r13"}}], "ann"))

    def slowly(*given: Any) -> Import:
        found = plan_import(*given)
        person.start()
        person.join(0.5)  # their turn comes when the import has ended
        return found

    monkeypatch.setattr(cmdb_import, "plan_import", slowly)
    found, put = cmdb_import._put(cmdb, [WEB], {}, "test", False)
    person.join()
    assert (len(found.rows), put.updated) == (1, ["web1"])
    assert cmdb.cis(["web1"])[0]["attributes"]["rack"] == "r13"
