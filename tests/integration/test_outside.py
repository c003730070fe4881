# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases whose effect is outside their tree, by the usual verbs: a device is what it says, whatever the hooks say about it.

The hosts are directories here, each with a device that is a file beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from documents import open_rfc, policy_of, write_document
from releases import write_release

HOSTS = ("dev1", "dev2")
BRING = 'echo "$TIDEGATE_VERSION" >"$TIDEGATE_DEVICE"'
# A device that never goes down from 2.0, whatever it is told.
STUBBORN = f'[ "$(cat "$TIDEGATE_DEVICE")" = 2.0 ] || {BRING}'


class Shelf:
    """Devices, a library and a CMDB."""

    def __init__(self, path: Path) -> None:
        self.path, self.said = path, ""
        (path / "cmdb.yml").write_text(yaml.safe_dump({"plugin": "tidegate.release.cmdb"}))
        rollout = {"stable": 0, "canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}}
        write_document(path / "policy.yml", policy_of(rollout=rollout))
        with Cmdb.open(str(path / "cmdb.sqlite"), create=True) as cmdb:
            cmdb.put_cis([{"name": name, "class": "server"} for name in HOSTS], "test")
        for name in HOSTS:
            self.device(name).write_text("1.0\n")
            own = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "tidegate_root": str(path / name)}
            folder = path / "host_vars"
            folder.mkdir(exist_ok=True)
            write_document(folder / f"{name}.yml", {**own, "tidegate_settings": {"device": str(self.device(name))}})

    def device(self, name: str) -> Path:
        return self.path / f"{name}.device"

    @property
    def devices(self) -> list[str]:
        return [self.device(name).read_text().strip() for name in HOSTS]

    def archive(self, version: str, start: str = BRING, **changes: Any) -> str:
        scripts = {"start": start, "read": 'cat "$TIDEGATE_DEVICE"'}
        hooks = {name: {"command": ["sh", "-c", script], "timeout": 5} for name, script in scripts.items()}
        said = {"version": version, "settings": {"device": None}, "hooks": hooks, "effect": "outside", **changes}
        folder = write_release(self.path / "releases" / version, **said)
        return read_release(folder).archive(create_library(str(self.path / "dsl")).repository("hello")).digest

    def play(self, verb: str, version: str, digest: str) -> tuple[int, str]:
        number = f"CHG{version.replace('.', '')}"
        rfc = self.path / f"{number}.yml"
        if not rfc.exists():
            write_document(rfc, open_rfc(number, version, digest))
        what = {"tidegate_rfc": str(rfc), "tidegate_become": False, **({"tidegate_reason": "a test"} if verb == "backout" else {})}
        own = {"DSL": "dsl", "CMDB": "cmdb.sqlite", "POLICY": "policy.yml"}
        environment = {
            **os.environ,
            **{f"TIDEGATE_{name}": str(self.path / file) for name, file in own.items()},
            "ANSIBLE_LOG_PATH": str(self.path / "ansible.log"),
            "ANSIBLE_NOCOLOR": "1",
        }
        command = ["ansible-playbook", f"tidegate.release.{verb}", "-i", str(self.path / "cmdb.yml"), "-e", json.dumps(what)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout

    def rows(self, query: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.path / "cmdb.sqlite")) as connection:
            return connection.execute(query).fetchall()

    @property
    def installed(self) -> dict[str, str]:
        return dict(self.rows("select ci.name, i.version from installation i join ci on ci.id = i.ci_id"))

    @property
    def states(self) -> list[str]:
        return [row[0] for row in self.rows("select state from deployment_host order by deployment_id desc, position")][: len(HOSTS)]

    @property
    def read(self) -> dict[str, str]:
        return {name: json.loads(attributes)["reads"]["hello"] for name, attributes in self.rows("select name, attributes from ci")}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_what_was_there_before_is_the_way_back(shelf: Shelf) -> None:
    shelf.archive("1.0")
    two = shelf.archive("2.0")
    code, said = shelf.play("deploy", "2.0", two)
    assert code == 0, said
    assert (shelf.devices, shelf.installed) == (["2.0"] * 2, dict.fromkeys(HOSTS, "2.0"))
    assert shelf.read == dict.fromkeys(HOSTS, "2.0")
    events = shelf.rows("select event, data from history where event = 'installed' order by seq")
    assert [json.loads(data)["version"] for _event, data in events] == ["1.0", "1.0", "2.0", "2.0"]
    code, said = shelf.play("backout", "2.0", two)
    assert (shelf.states, shelf.devices) == (["backed_out"] * 2, ["1.0"] * 2), said
    assert shelf.installed == dict.fromkeys(HOSTS, "1.0")


def test_a_hook_that_only_says_so_gets_nowhere(shelf: Shelf) -> None:
    shelf.archive("1.0")
    code, said = shelf.play("deploy", "2.0", shelf.archive("2.0", start="true"))
    assert code != 0
    assert "it says 1.0, and with hello 2.0 it has to say 2.0" in said
    assert (shelf.devices, shelf.installed) == (["1.0"] * 2, dict.fromkeys(HOSTS, "1.0"))


def test_a_device_that_does_not_go_back_is_owed_and_recorded_with_what_it_says(shelf: Shelf) -> None:
    shelf.archive("1.0", start=STUBBORN)
    two = shelf.archive("2.0", start=f'{BRING}; case "$TIDEGATE_DEVICE" in */dev2.device) exit 1;; esac')
    code, said = shelf.play("deploy", "2.0", two)
    assert code != 0
    assert (shelf.states, shelf.devices) == (["owed"] * 2, ["2.0"] * 2), said
    assert shelf.installed == dict.fromkeys(HOSTS, "2.0")
    assert "it says 2.0, and with hello 1.0 it has to say 1.0" in said
    shelf.device("dev1").write_text("1.0\n")
    code, said = shelf.play("backout", "2.0", two)
    assert (shelf.states, shelf.installed) == (["backed_out", "owed"], {"dev1": "1.0", "dev2": "2.0"}), said


def test_a_device_that_says_what_no_release_is_has_none_on_record(shelf: Shelf) -> None:
    shelf.archive("1.0", start=f'[ "$(cat "$TIDEGATE_DEVICE")" = 3.0 ] || {BRING}')
    code, said = shelf.play("deploy", "2.0", shelf.archive("2.0", start='echo 3.0 >"$TIDEGATE_DEVICE"'))
    assert code != 0
    assert (shelf.states[0], shelf.devices[0]) == ("owed", "3.0"), said
    assert shelf.installed == {"dev2": "1.0"}
    assert shelf.read == {"dev1": "3.0", "dev2": "1.0"}


def test_what_no_archived_version_is_read_as_is_changed_by_nothing(shelf: Shelf) -> None:
    shelf.archive("1.0")
    shelf.device("dev1").write_text("0.9\n")
    code, said = shelf.play("deploy", "2.0", shelf.archive("2.0"))
    assert code != 0
    assert "it says 0.9, and there is no archived version of hello to bring it back to; archive one that reads 0.9" in said
    assert (shelf.devices[0], shelf.read["dev1"]) == ("0.9", "0.9")
    assert "dev1" not in shelf.installed


def test_the_first_of_its_name_is_not_cleared(shelf: Shelf) -> None:
    code, said = shelf.play("deploy", "2.0", shelf.archive("2.0"))
    assert code != 0
    assert "it is the first hello on dev1 and 1 more, and no other version with effect: outside is archived" in said
    assert shelf.rows("select count(*) from deployment") == [(0,)]
