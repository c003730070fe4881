# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's settings are in nothing that a deployment says or leaves, however much Ansible is asked to say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fleet import Fleet


@pytest.fixture
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("single"), count=1)
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.down()


def test_no_setting_is_said_when_ansible_says_everything(single: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the half of the host goes there as a file: the fleet looks at all that was left when it goes down."""
    first = single.rfc("CHG0000001", "1.0", single.archive("1.0"))
    monkeypatch.setenv("ANSIBLE_PIPELINING", "False")
    done = single.play("tidegate.release.deploy", {"tidegate_rfc": str(first)}, "-vvvv")
    assert done.returncode == 0, done.stdout[-3000:]
    single.run_on("web1", "echo 2.0 >/etc/hello-broken")
    second = single.rfc("CHG0000002", "2.0", single.archive("2.0", logs=["log"]))
    for name, value in {"PIPELINING": "True", "DEBUG": "1", "LOG_PATH": str(single.path / "ansible.log")}.items():
        monkeypatch.setenv(f"ANSIBLE_{name}", value)
    failed = single.play("tidegate.release.deploy", {"tidegate_rfc": str(second)}, "-vvvvvv")
    assert failed.returncode == 2, failed.stdout[-3000:]
    assert "starting with ${token}" in failed.stdout
    assert "broken on purpose" in failed.stdout
