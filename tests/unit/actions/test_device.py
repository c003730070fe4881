# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a host's device is the one that its CI says, and over Ansible's connection nothing gets through a shell by its own will."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import device
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.device import open_device, recorded_identity
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceError, SilentError
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.fwupd import Fwupd
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.redfish import Bmc

SAID = {"serial": "SN1", "model": "T1", "redfish": "", "redfish_fingerprint": "", "asset_tag": ""}


class Action:
    """An action whose host does what a local shell does, or fails with ``error``."""

    def __init__(self, error: Exception | None = None, pipelining: bool = True) -> None:
        self.error, self.pipelining = error, pipelining
        self.lines: list[tuple[str, bytes | None]] = []
        self.sent: list[tuple[str, str]] = []
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/own", join_path=lambda *parts: "/".join(parts)))

    def _is_pipelining_enabled(self, _style: str) -> bool:
        return self.pipelining

    def _low_level_execute_command(self, line: str, in_data: bytes | None = None) -> dict[str, Any]:
        self.lines.append((line, in_data))
        if self.error:
            raise self.error
        done = subprocess.run(["sh", "-c", line], check=False, capture_output=True, text=True, input=(in_data or b"").decode())
        return {"rc": done.returncode, "stdout": done.stdout.replace("\n", "\r\n"), "stderr": done.stderr}

    def _transfer_file(self, file: str, there: str) -> None:
        if self.error:
            raise self.error
        self.sent.append((file, there))

    def _fixup_perms2(self, paths: list[str], execute: bool = True) -> None:
        assert paths[-1] == self.sent[-1][1]
        assert not execute


def host_of(action: Action, **options: Any) -> Any:
    fwupd = open_device(SAID, options, action)
    assert isinstance(fwupd, Fwupd)
    return fwupd


def test_the_attribute_redfish_says_which_way() -> None:
    options = {"redfish_user": "admin", "redfish_password": "x"}
    assert isinstance(open_device({**SAID, "redfish": "https://bmc1.example.org"}, options, None), Bmc)
    assert isinstance(open_device(SAID, options, Action()), Fwupd)
    for odd in ("http://\x07", ["https://bmc1.example.org"], 7):
        with pytest.raises(DeviceError, match="the attribute redfish of the CI srv1 is no address"):
            recorded_identity("srv1", {"redfish": odd, "serial": "SN1", "model": "T1"}, None)
    assert recorded_identity("srv1", {"redfish": None, "serial": "SN1", "model": "T1"}, None) == SAID


def test_arguments_go_through_the_shell_as_they_are() -> None:
    action = Action()
    odd = ["a b", "$(echo c)", "'", ";", "*", "--x=\n"]
    reply = host_of(action)._run(["printf", "%s|", *odd], 10, None)
    assert reply.output == "".join(f"{one}|" for one in odd)
    assert shlex.split(action.lines[0][0]) == ["printf", "%s|", *odd]
    assert action.lines[0][1]  # no terminal, whose end would be that of what runs
    assert host_of(action)._run(["sh", "-c", "exit 3"], 10, None).status == 3
    plain = Action(pipelining=False)
    host_of(plain)._run(["true"], 10, None)
    assert plain.lines == [("true", None)]


def test_an_image_is_brought_under_a_name_of_ours(tmp_path: Path) -> None:
    action, file = Action(), tmp_path / "--force $(reboot).cab"
    assert host_of(action)._put(file, 10, None) == "/own/image.cab"
    assert action.sent == [(str(file), "/own/image.cab")]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (AnsibleConnectionFailure("ssh: no route, hunter2"), SilentError, "its host can't be reached"),
        (AnsibleError("Missing sudo password, hunter2\x1b[1m"), DeviceError, "Ansible can't work on its host"),
    ],
)
def test_what_ansible_can_not_do_is_a_sentence_without_secrets(error: Exception, kind: type[DeviceError], words: str) -> None:
    host = host_of(Action(error), settings={"token": "hunter2"})
    for ask in (lambda: host._run(["true"], 10, None), lambda: host._put(Path("x"), 10, None)):
        with pytest.raises(kind, match=words) as raised:
            ask()
        assert raised.type is kind
        assert "hunter2" not in str(raised.value)
        assert "\x1b" not in str(raised.value)


def test_a_host_that_does_not_end_it_in_time_is_silent_and_a_lost_lease_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    action = Action()
    monkeypatch.setattr(action, "_low_level_execute_command", lambda *_given, **_named: time.sleep(30))
    with pytest.raises(SilentError, match="its host did not do it within 0 s"):
        host_of(action)._run(["true"], 0.05, None)
    monkeypatch.setattr(device, "_ALIVE", 0.05)

    def lost() -> None:
        raise ConflictError("somebody else drives it")

    with pytest.raises(ConflictError):
        host_of(action)._run(["true"], 20, lost)


def test_who_needs_no_redfish_does_not_load_it() -> None:
    module = "ansible_collections.tidegate.release.plugins.plugin_utils.actions.device"
    check = f"import sys, {module}; sys.exit('redfish' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
