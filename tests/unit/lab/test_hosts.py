# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.lab import hosts, machine
from ansible_collections.tidegate.release.plugins.module_utils.lab.hosts import CONNECTING, Lab, Settings
from ansible_collections.tidegate.release.plugins.module_utils.lab.processes import LabError
from hypothesis import given
from hypothesis import strategies as st

LOCAL = Settings("local", "deploy", "127.0.1", 1, 2022, "1g")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": "10.0.0"}, "loopback"),
        ({"network": "127.0.300"}, "loopback"),
        ({"network": "127.0"}, "loopback"),
        ({"user": "root"}, "system itself"),
        ({"user": "x /etc"}, "login user"),
        ({"disk": "0m"}, "size"),
        ({"disk": "1g,mode=777"}, "size"),
        ({"port": 0}, "port"),
    ],
)
def test_settings_that_can_not_be_are_refused_in_a_sentence(change: dict[str, object], said: str) -> None:
    with pytest.raises(LabError, match=said):
        replace(LOCAL, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [[""], ["../x"], ["a", "a"], ["A"], ["-a"], ["a\n"], ["a" * 64]])
def test_names_that_can_not_name_a_host_are_refused_before_anything_is_made(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(LabError, match="can't name a host"):
        Lab(str(tmp_path / "lab")).up(names, LOCAL)
    assert not (tmp_path / "lab").exists()


@given(first=st.integers(-5, 300), count=st.integers(0, 300))
def test_every_host_has_an_address_of_its_own_within_the_network(first: int, count: int) -> None:
    names = [f"h{number}" for number in range(count)]
    try:
        addresses = replace(LOCAL, first=first).addresses(names)
    except LabError:
        assert first < 1 or first + count > 255
        return
    assert len(set(addresses.values())) == count
    assert all(0 < int(address.removeprefix("127.0.1.")) < 255 for address in addresses.values())


@pytest.mark.parametrize("path", ["a b", "a,b", "a:b", "a'b", "a%h", "a$b", "a\\b"])
def test_a_directory_that_mount_or_sshd_would_misread_is_refused(path: str) -> None:
    with pytest.raises(LabError, match="choose another"):
        Lab(f"/tmp/{path}")  # noqa: S108 - nothing is made there


def test_local_hosts_come_once_and_go_with_their_directory(tmp_path: Path) -> None:
    lab = Lab(str(tmp_path / "lab"))
    started, variables = lab.up(["a", "b"], LOCAL)
    assert started == ["a", "b"]
    assert variables["a"]["ansible_connection"] == "local"
    assert Path(variables["a"]["tidegate_root"]).is_dir()
    assert lab.up(["a", "b"], LOCAL)[0] == []
    assert lab.down()
    assert not lab.down()
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("mode", ["isolated", "user", "local"])
def test_what_is_listed_and_address_port_and_user_are_all_that_says_how_a_host_is_reached(mode: str) -> None:
    variables = Lab("/nowhere")._variables("a", "127.0.1.1", replace(LOCAL, mode=mode))
    reaching = {name for name in variables if name.startswith("ansible_")}
    assert reaching <= {*CONNECTING, "ansible_host", "ansible_port", "ansible_user"}


def test_a_read_only_directory_of_a_release_does_not_keep_a_lab_from_going(tmp_path: Path) -> None:
    lab = Lab(str(tmp_path / "lab"))
    tree = Path(lab.up(["a"], LOCAL)[1]["a"]["tidegate_root"]) / "tree"
    tree.mkdir()
    (tree / "file").touch()
    tree.chmod(0o555)
    lab.down()
    assert not (tmp_path / "lab").exists()


def test_what_a_user_put_into_the_directory_stays(tmp_path: Path) -> None:
    lab = Lab(str(tmp_path))
    (tmp_path / "notes").write_text("mine")
    lab.up(["a"], LOCAL)
    lab.down()
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize("name", ["hosts", "key", "inventory.yml"])
def test_a_directory_that_is_no_lab_loses_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    lab = Lab(str(tmp_path))
    assert not lab.is_there()
    assert not lab.down()
    with pytest.raises(LabError, match="is no lab"):
        lab.up(["a"], LOCAL)
    assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_two_can_not_work_on_one_lab_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "PATIENCE", 0.2)
    lab = Lab(str(tmp_path))
    lab.up(["a"], LOCAL)
    with lab._alone(), pytest.raises(LabError, match="up or down; try again"):
        Lab(str(tmp_path)).down()
    assert lab.missing(["a"], LOCAL) == []


def test_a_weaker_mode_is_said_aloud_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_why_not_isolated", lambda: "that needs root")
    monkeypatch.setattr(machine, "_why_not_user", lambda: "")
    assert machine.choose_mode("auto") == ("user", "lab hosts are of mode user: not isolated, because that needs root")
    monkeypatch.setattr(machine, "_why_not_user", lambda: "sshd is not installed")
    mode, said = machine.choose_mode("auto")
    assert mode == "local"
    assert "that needs root" in said
    assert "sshd is not installed" in said


def test_a_wanted_mode_is_never_weakened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_why_not_isolated", lambda: "that needs root")
    with pytest.raises(LabError, match="mode isolated can't be made: that needs root"):
        machine.choose_mode("isolated")
