# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a first release are right for every kind, whatever the release, its hosts and its owner are called."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.command.first_release import KINDS, FirstRelease, nearest_name, parse_hosts
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import make_key_pair

NOW = datetime(2027, 3, 1, 12, 30, 45, tzinfo=UTC)


def first(**changes: Any) -> FirstRelease:
    return FirstRelease(
        **{"kind": "process", "name": "web-shop", "hosts": {"web1": "", "web2": "::1"}, "person": "rita", "now": NOW, **changes}
    )


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_template_is_left_and_every_document_can_be_read(kind: str) -> None:
    files = dict(first(kind=kind, person='yes: "no" # ü').files(make_key_pair()[1]))
    assert {
        "release/release.yml",
        "release/README.md",
        "rfc.yml",
        "policy.yml",
        "cmdb.yml",
        "hosts.yml",
        "ansible.cfg",
        ".gitignore",
    } <= set(files)
    for path, text in files.items():
        assert not [mark for mark in ("@{", "}@", "%%", "NAME", "ROLE", ".j2.j2") if mark in text.replace("%%a", "") or mark in path], path
        assert text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        if path.endswith(".yml"):
            assert yaml.safe_load(text) is not None or "#" in text, path
    assert list(yaml.safe_load(files["policy.yml"])["people"]) == ['yes: "no" # ü']
    assert yaml.safe_load(files["hosts.yml"]) == {"all": {"hosts": {"web1": {}, "web2": {"ansible_host": "::1"}}}}


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_line_of_each_document_names_a_schema_that_is_there(kind: str) -> None:
    files = dict(first(kind=kind).files("key"))
    for path, schema in (("release/release.yml", "release"), ("rfc.yml", "rfc"), ("policy.yml", "policy")):
        before, _sign, place = files[path].splitlines()[0].partition("$schema=")
        assert before == "# yaml-language-server: "
        assert Path(place).name == f"{schema}.schema.json"
        assert Path(place).is_file()


def test_the_window_is_open_for_a_week() -> None:
    rfc = yaml.safe_load(dict(first().files("key"))["rfc.yml"])
    assert (rfc["start_date"], rfc["end_date"]) == ("2027-03-01T12:30:00+00:00", "2027-03-08T12:30:00+00:00")


@pytest.mark.parametrize("name", ["", "a", "Shop", "1shop", "shop_1", "-shop", "shop-", "a" * 31, "shop\n", "../shop", "a.b"])
def test_a_name_that_a_user_a_unit_or_a_package_can_not_have_is_refused(name: str) -> None:
    with pytest.raises(TidegateError, match="can't be the release's name; say another with --name"):
        first(name=name)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("My_Shop", "my-shop"), ("2027 shop!", "shop"), ("", "service"), ("ü", "service"), ("a" * 29 + "_b", "a" * 29), ("x", "service")],
)
def test_a_directory_lends_its_name_as_far_as_it_can(folder: str, name: str) -> None:
    assert nearest_name(folder) == name
    assert first(name=name)


@pytest.mark.parametrize("hosts", ["", " , ", "web 1", "web1=a b", "web1={{ x }}", "'web1", "-o", "web1,web'2"])
def test_what_can_be_no_host_is_refused(hosts: str) -> None:
    with pytest.raises(TidegateError, match="the hosts can't be "):
        first(hosts=parse_hosts(hosts))


def test_hosts_come_with_addresses_or_without() -> None:
    assert parse_hosts("web1, web2=192.0.2.12,") == {"web1": "", "web2": "192.0.2.12"}
