# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A setting that somebody has is never another because of the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.command.ansible_settings import configured_options, missing_settings


def test_what_nobody_decided_is_set() -> None:
    assert missing_settings({}, ())["ANSIBLE_STDOUT_CALLBACK"] == "tidegate.release.progress"


def test_the_environment_and_the_file_win() -> None:
    found = missing_settings({"ANSIBLE_FORKS": "3", "ANSIBLE_SSH_PIPELINING": "false"}, {"stdout_callback"})
    assert not {"ANSIBLE_FORKS", "ANSIBLE_PIPELINING", "ANSIBLE_STDOUT_CALLBACK"} & found.keys()
    assert "ANSIBLE_SSH_ARGS" in found


@pytest.mark.parametrize("where", ["here", "named", "folder", "home"])
def test_the_file_is_the_one_that_ansible_reads(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home, other = (tmp_path / name for name in ("here", "home", "other"))
    for folder in (here, home, other):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    environment = {"named": {"ANSIBLE_CONFIG": str(other / "ansible.cfg")}, "folder": {"ANSIBLE_CONFIG": str(other)}}.get(where, {})
    place = {"here": here / "ansible.cfg", "home": home / ".ansible.cfg"}.get(where, other / "ansible.cfg")
    place.write_text("[defaults]\nforks = 3 ; a few\n")
    assert configured_options(environment, here) == {"forks"}


def test_a_file_where_everybody_may_write_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    (tmp_path / "ansible.cfg").write_text("[defaults]\nforks = 3\n")
    tmp_path.chmod(0o777)
    assert "forks" not in configured_options({}, tmp_path)


@pytest.mark.parametrize("text", [b"forks = 3\n", b"\xff\xfe", b"[defaults\n"])
def test_what_is_no_configuration_is_left_to_ansible(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_bytes(text)
    assert configured_options({"ANSIBLE_CONFIG": str(tmp_path)}, tmp_path) == set()
