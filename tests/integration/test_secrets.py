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


def user_of_service(fleet: Fleet) -> str:
    return fleet.run_on("web1", "ps -o user:20= -p $(cat /opt/tidegate/hello/state/pid)").strip()


def owners(fleet: Fleet, path: str) -> set[str]:
    return set(fleet.run_on("web1", f"find -L /opt/tidegate/hello/{path} -printf '%u\\n'").split())


def test_a_service_runs_as_its_own_user_and_no_setting_is_said_when_ansible_says_everything(
    single: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the half of the host goes there as a file: the fleet looks at all that was left when it goes down."""
    own = {"user": "hello"}
    refused = single.deploy("CHG0000001", "1.0", **own)
    assert refused.returncode == 2
    assert "hello 1.0 runs as the user hello, which this host does not have; make it" in " ".join(refused.stdout.split())

    single.run_on("web1", "useradd --system hello")
    monkeypatch.setenv("ANSIBLE_PIPELINING", "False")
    first = single.rfc("CHG0000002", "1.0", single.archive("1.0", **own))
    done = single.play("tidegate.release.deploy", {"tidegate_rfc": str(first)}, "-vvvv")
    assert done.returncode == 0, done.stdout[-3000:]
    assert user_of_service(single) == "hello"

    single.run_on("web1", "echo 2.0 >/etc/hello-broken")
    second = single.rfc("CHG0000003", "2.0", single.archive("2.0", logs=["log"], **own))
    for name, value in {"PIPELINING": "True", "DEBUG": "1", "LOG_PATH": str(single.path / "ansible.log")}.items():
        monkeypatch.setenv(f"ANSIBLE_{name}", value)
    failed = single.play("tidegate.release.deploy", {"tidegate_rfc": str(second)}, "-vvvvvv")
    assert failed.returncode == 2, failed.stdout[-3000:]
    assert "starting with ${token}" in failed.stdout
    assert "broken on purpose" in failed.stdout
    assert (user_of_service(single), single.served()) == ("hello", {"web1": "1.0"})
    for name in ("PIPELINING", "DEBUG", "LOG_PATH"):
        monkeypatch.delenv(f"ANSIBLE_{name}")

    assert single.deploy("CHG0000004", "3.0", **own).returncode == 0
    assert (user_of_service(single), single.served()) == ("hello", {"web1": "3.0"})
    assert (owners(single, "state"), owners(single, "current"), owners(single, "output")) == ({"hello"}, {"root"}, {"root"})
    undone = single.play("tidegate.release.backout", {"tidegate_rfc": str(single.path / "CHG0000004.yml")})
    assert undone.returncode == 0, undone.stdout[-3000:]
    assert (user_of_service(single), single.served()) == ("hello", {"web1": "1.0"})
