# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has besides releases is known by one sha256 a set, and told only where that is not the recorded one."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import host_sets as sets
from ansible_collections.tidegate.release.plugins.module_utils import set_moments
from ansible_collections.tidegate.release.plugins.module_utils.host_sets import digest_of, host_sets
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import audit_sets

ENTRIES = {"a:all": "1.0", "é": "2"}


def told(recorded: dict[str, str], whole: bool = False) -> dict[str, Any]:
    return host_sets("/nowhere", recorded, whole)["packages"]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "packages", lambda: dict(ENTRIES))
    monkeypatch.setattr(set_moments, "moments_of", lambda name, entries, _root: dict.fromkeys(entries, 7.0) if name == "packages" else {})
    for name in ("units", "cron"):
        monkeypatch.setattr(sets, name, dict)
    monkeypatch.setattr(sets, "listeners", lambda _root: {})


def test_a_set_is_told_only_when_it_is_another() -> None:
    digest = digest_of(ENTRIES)
    assert told({"packages": digest}) == {"sha256": digest}
    assert told({}, whole=True) == {"sha256": digest, "entries": ENTRIES}
    assert told({"packages": "0" * 64}) == {"sha256": digest, "entries": ENTRIES, "since": {"a:all": 7.0, "é": 7.0}}


def test_what_nobody_put_on_record_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> dict[str, str]:
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(sets, "packages", fail)
    assert {*host_sets("/nowhere", {"cron": digest_of({})}, whole=False)} == {"cron"}
    assert host_sets("/nowhere", {}, whole=False) == {}


def test_both_sides_know_a_set_by_the_same_sha256() -> None:
    assert digest_of(ENTRIES) == audit_sets.digest_of(ENTRIES)
    assert digest_of(ENTRIES) != digest_of({**ENTRIES, "b": ""})
    assert {*host_sets("/nowhere", {}, whole=True)} == {*audit_sets.SETS}


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(5, "I/O error"), "I/O error"),
        (OSError(13, "Permission denied", "/var/spool/cron"), "/var/spool/cron can't be read (Permission denied)"),
        (HostError("rpm does not answer"), "rpm does not answer"),
        (ValueError("odd"), "odd"),
    ],
)
def test_a_set_that_can_not_be_read_is_that_sets_problem(monkeypatch: pytest.MonkeyPatch, error: Exception, why: str) -> None:
    def fail() -> dict[str, str]:
        raise error

    monkeypatch.setattr(sets, "packages", fail)
    assert told({}, whole=True) == {"problem": why}
    assert "sha256" in host_sets("/nowhere", {}, whole=True)["cron"]


def test_a_set_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "_MOST", 1)
    assert told({}, whole=True) == {"problem": "there are more than 1"}


def test_dpkgs_database_is_read_for_what_is_installed() -> None:
    text = """\
Package: one
Status: install ok installed
Architecture: amd64
Version: 1:2.0-1
Description: x
 Version: 9

Package: two
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: three
Status: hold ok installed
Architecture: all
Version: 3
"""
    assert dict(sets._dpkg(text)) == {"one:amd64": "1:2.0-1", "three:all": "3"}


def test_units_and_cron_files_are_known_by_target_content_and_mode(tmp_path: Path) -> None:
    folder = tmp_path / "cron.d"
    folder.mkdir()
    (folder / "job").write_text("* * * * * root true\n")
    (folder / "link").symlink_to("/etc/elsewhere")
    os.mkfifo(folder / "pipe")
    before = sets._files((str(folder), str(tmp_path / "nowhere")))
    assert before[str(folder / "link")] == "-> /etc/elsewhere"
    assert before[str(folder / "pipe")] == "is no file"
    target = tmp_path / "script"
    target.write_text("true\n")
    (folder / "led").symlink_to(target)
    led = sets._files((str(folder),))[str(folder / "led")]
    assert led.startswith(f"-> {target} ")
    target.write_text("false\n")
    assert sets._files((str(folder),))[str(folder / "led")] != led, "what the link leads to is what is run"
    (folder / "job").chmod(0o666)
    assert sets._files((str(folder),)) != before
    (folder / "job").chmod(0o644)
    (folder / "job").write_text("* * * * * root false\n")
    assert sets._files((str(folder),)) != before


def test_listeners_are_those_of_processes_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"tcp 127.0.0.1:{server.getsockname()[1]}"
        assert sets.listeners("/nowhere")[name] == os.path.realpath("/proc/self/exe")
        monkeypatch.setattr(sets, "_owners", lambda *_: iter(()))
        assert name not in sets.listeners("/nowhere"), "it is another's that shares the network"
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert name not in sets.listeners("/nowhere")


def test_a_set_that_nobody_here_can_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="only root sees whose a listener is"):
        sets.listeners("/nowhere")
    monkeypatch.setattr(sets, "_DPKG", "/nowhere/status")
    monkeypatch.setattr(sets, "_RPM", ("/nowhere/rpm",))
    with pytest.raises(HostError, match="has neither dpkg nor rpm"):
        sets.packages()


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [("0100007F", 4, "127.0.0.1"), ("00000000000000000000000001000000", 16, "::1"), ("0A000A0A", 4, "10.10.0.10")],
)
def test_addresses_are_as_people_write_them(text: str, size: int, expected: str) -> None:
    assert sets._address(bytes.fromhex(text), size) == expected


def test_a_program_of_a_release_is_called_the_same_in_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "readlink", lambda _path: "/opt/tidegate/hello/releases/1.0-abc/tree/bin/serve (deleted)")
    assert sets._program("1", "/opt/tidegate") == "/opt/tidegate/hello/current/bin/serve"
    monkeypatch.setattr(os, "readlink", lambda _path: "/usr/sbin/sshd (deleted)")
    assert sets._program("1", "/opt/tidegate") == "/usr/sbin/sshd"
