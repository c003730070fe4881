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
import sys
from pathlib import Path
from typing import Any

import forked
import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from documents import open_rfc, policy_of, write_document
from kills import kill_at
from releases import write_release

HOSTS = ("dev1", "dev2", "dev3", "dev4")
BRING = 'echo "$TIDEGATE_VERSION" >"$TIDEGATE_DEVICE"'
LIES = f"""
case $(cat "$TIDEGATE_DEVICE.is") in
keeps) {BRING}; echo lies >"$TIDEGATE_DEVICE.is" ;;
ignores) ;;
grumbles) {BRING}; exit 1 ;;
errs) echo 3.0 >"$TIDEGATE_DEVICE"; echo lies >"$TIDEGATE_DEVICE.is" ;;
esac
"""


class Shelf:
    """Devices, a library and a CMDB."""

    def __init__(self, path: Path) -> None:
        self.path, self.said = path, ""
        (path / "cmdb.yml").write_text(yaml.safe_dump({"plugin": "tidegate.release.cmdb"}))
        rollout = {"stable": 0, "canary": len(HOSTS), "steps": [100], "budget": {"wave": 0, "total": 0}}
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
        number = f"CHG00{version.replace('.', '')}"
        rfc = self.path / f"{number}.yml"
        if not rfc.exists():
            write_document(rfc, open_rfc(number, version, digest))
        return self.run(verb, tidegate_rfc=str(rfc), **({"tidegate_reason": "a test"} if verb == "backout" else {}))

    def run(self, verb: str, **variables: str) -> tuple[int, str]:
        done = forked.run(self.command(verb, **variables), self.environment, timeout=180)
        return done.returncode, done.stdout

    def command(self, verb: str, **variables: str) -> list[str]:
        what = {"tidegate_become": False, **variables}
        return ["ansible-playbook", f"tidegate.release.{verb}", "-i", str(self.path / "cmdb.yml"), "-e", json.dumps(what)]

    @property
    def environment(self) -> dict[str, str]:
        own = {"DSL": "dsl", "CMDB": "cmdb.sqlite", "POLICY": "policy.yml"}
        return {**os.environ, **{f"TIDEGATE_{name}": str(self.path / file) for name, file in own.items()}, "ANSIBLE_NOCOLOR": "1"}

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
    assert (shelf.devices, shelf.installed) == (["2.0"] * len(HOSTS), dict.fromkeys(HOSTS, "2.0"))
    assert shelf.read == dict.fromkeys(HOSTS, "2.0")
    events = shelf.rows("select event, data from history where event = 'installed' order by seq")
    assert [json.loads(data)["version"] for _event, data in events] == ["1.0"] * len(HOSTS) + ["2.0"] * len(HOSTS)
    code, said = shelf.run("audit")
    assert code == 0, said
    assert "each runs what the CMDB says and the DSL holds" in said
    code, said = shelf.play("backout", "2.0", two)
    assert (shelf.states, shelf.devices) == (["backed_out"] * len(HOSTS), ["1.0"] * len(HOSTS)), said
    assert shelf.installed == dict.fromkeys(HOSTS, "1.0")


@pytest.mark.thorough
def test_a_controller_that_dies_before_it_notes_what_a_device_says_asks_it_again(shelf: Shelf) -> None:
    shelf.archive("1.0")
    two = shelf.archive("2.0")
    write_document(shelf.path / "CHG0020.yml", open_rfc("CHG0020", "2.0", two))
    kill_at(shelf, "outside_read", shelf.command("deploy", tidegate_rfc=str(shelf.path / "CHG0020.yml")))
    code, said = shelf.play("deploy", "2.0", two)
    assert code == 0, said
    assert (shelf.devices, shelf.installed) == (["2.0"] * len(HOSTS), dict.fromkeys(HOSTS, "2.0"))


@pytest.mark.thorough
def test_an_audit_asks_the_device_again(shelf: Shelf) -> None:
    shelf.archive("1.0")
    code, said = shelf.play("deploy", "2.0", shelf.archive("2.0"))
    assert code == 0, said
    shelf.device("dev1").write_text("1.0\n")
    shelf.device("dev2").write_text("2.0-rescue\n")
    shelf.device("dev3").unlink()
    code, said = shelf.run("audit")
    assert code != 0
    assert "4 of 4 hosts were compared with the CMDB and the DSL: 3 differences" in said
    assert "dev1: hello 2.0 is live, but it says 1.0 as with hello 1.0, and has to say 2.0; find out who changed it" in said
    assert "dev2: hello 2.0 is live, but it says 2.0-rescue, and has to say 2.0" in said
    assert "dev3: hello 2.0 is live, and what runs outside its tree can't be read: hook read of hello 2.0" in said
    assert "dev4: " not in said
    assert ".device" not in said, "where its device is, is a setting"


def test_four_lies_in_one_wave(shelf: Shelf) -> None:
    """A device that does not go back, one that was not changed, one that was though the hook says no, and one with what is no release."""
    shelf.archive("1.0", start=f'grep -q lies "$TIDEGATE_DEVICE.is" || {BRING}')
    for name, lie in zip(HOSTS, ("keeps", "ignores", "grumbles", "errs"), strict=True):
        shelf.device(name).with_suffix(".device.is").write_text(f"{lie}\n")
    two = shelf.archive("2.0", start=LIES)
    code, said = shelf.play("deploy", "2.0", two)
    assert code != 0
    assert (shelf.states, shelf.devices) == (["owed", "backed_out", "backed_out", "owed"], ["2.0", "1.0", "1.0", "3.0"]), said
    assert shelf.installed == {"dev1": "2.0", "dev2": "1.0", "dev3": "1.0"}
    assert shelf.read == {"dev1": "2.0", "dev2": "1.0", "dev3": "1.0", "dev4": "3.0"}
    for what in ("it says 2.0, and with hello 1.0 it has to say 1.0", "it says 3.0, and with hello 1.0 it has to say 1.0"):
        assert what in said
    steps = shelf.rows("select host, event from journal where event in ('active', 'started', 'failed', 'stuck') order by host, seq")
    assert steps == [("dev1", "started"), ("dev1", "active"), ("dev2", "failed"), ("dev3", "failed"), ("dev4", "stuck")]
    shelf.device("dev1").write_text("1.0\n")
    code, said = shelf.play("backout", "2.0", two)
    assert (shelf.states[0], shelf.states[3], shelf.installed.get("dev1")) == ("backed_out", "owed", "1.0"), said


def test_what_no_archived_version_is_read_as_is_changed_by_nothing(shelf: Shelf) -> None:
    shelf.archive("1.0")
    shelf.device("dev1").write_text("0.9\n")
    code, said = shelf.play("deploy", "2.0", shelf.archive("2.0"))
    assert code != 0
    assert "it says 0.9, and there is no archived version of hello to bring it back to; archive one that reads 0.9" in said
    assert (shelf.devices[0], shelf.read["dev1"]) == ("0.9", "0.9")
    assert "dev1" not in shelf.installed
