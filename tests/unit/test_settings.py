# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of homes are taken as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.engine import DatabaseAddress
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc, rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import configured_homes, expanded, has_login, without_login


def test_a_home_of_nobody_is_only_a_path_that_is_not_there() -> None:
    assert expanded("~/rfc.yml") == str(Path.home() / "rfc.yml")
    assert expanded("~nobody-of-this-name/rfc.yml") == "~nobody-of-this-name/rfc.yml"
    assert expanded("oci://~/x") == "oci://~/x"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("oci://rita:hidden@h.example/p", "oci://***@h.example/p"),
        ("oci://rita:hid/den@h.example/p", "oci://***@h.example/p"),
        ("oci://rita:hid@den@h.example/p", "oci://***@h.example/p"),
        ("oci://rita:hid?den#@h.example/p", "oci://***@h.example/p"),
        ("oci:/rita:hidden@h.example/p", "oci:/***@h.example/p"),
        ("postgresql//rita:hidden@h.example/p", "postgresql//***@h.example/p"),
        ("oci:rita:hidden@h.example", "***@h.example"),
        ("rita:hidden@h.example/p", "***@h.example/p"),
        ("host=h.example user=rita password=hidden", "host=h.example user=rita password=***"),
    ],
)
def test_who_logs_in_is_not_shown_however_an_address_is_mistyped(address: str, shown: str) -> None:
    assert has_login(address)
    assert without_login(address) == shown
    for read in (open_library, load_rfc, rfc_number, DatabaseAddress.parse):
        if read is not DatabaseAddress.parse or "://" not in address:
            with pytest.raises(TidegateError) as caught:
                read(expanded(address))
            assert "hid" not in str(caught.value)
            assert "den" not in str(caught.value)


def test_a_query_is_not_shown_either() -> None:
    assert without_login("servicenow+https://h.example/CHG0030001?token=hidden") == "servicenow+https://h.example/CHG0030001?***"
    assert without_login("servicenow+https://h.example/CHG0030001#hidden") == "servicenow+https://h.example/CHG0030001?***"


@pytest.mark.parametrize("path", ["/srv/a:b@c/dsl", "./a:b@c", "~/me@there/dsl", "me@there/dsl", "dsl", "oci://h.example/p", "/d?x=1#y"])
def test_a_path_is_shown_as_it_is(path: str) -> None:
    assert not has_login(path)
    assert without_login(path) == path


def test_a_cmdb_may_say_who_logs_in_and_calls_itself_without() -> None:
    assert DatabaseAddress.parse("postgresql://rita:hid%40den@h.example/p").label == "postgresql://h.example/p"
    with pytest.raises(TidegateError, match="can't be read; write it like"):
        DatabaseAddress.parse("postgresql://rita:hid@den@h.example/p")


def test_what_ansible_cfg_says_of_homes_starts_at_that_file(tmp_path: Path) -> None:
    file = tmp_path / "ansible.cfg"
    file.write_text(
        "[defaults]\nforks = 3\n[tidegate]\ndsl = lib ; here\ncmdb = postgresql://db/cmdb\nkey = ~/key.pem\npolicy = /srv/p.yml\nrfc =\n"
    )
    assert configured_homes(file) == {
        "TIDEGATE_DSL": str(tmp_path / "lib"),
        "TIDEGATE_CMDB": "postgresql://db/cmdb",
        "TIDEGATE_KEY": str(Path.home() / "key.pem"),
        "TIDEGATE_POLICY": "/srv/p.yml",
    }


def test_a_name_in_it_that_is_no_home_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ansible.cfg"
    file.write_text("[tidegate]\ncmbd = x\n")
    with pytest.raises(TidegateError, match=r"ansible\.cfg has cmbd in its section \[tidegate\]; what can be there is cmdb, dsl, key"):
        configured_homes(file)


@pytest.mark.parametrize("content", [b"", b"[defaults]\n", b"\xff\xfe", b"[tidegate\n"])
def test_what_says_nothing_of_homes_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_bytes(content)
    assert configured_homes(tmp_path / "ansible.cfg") == {}
