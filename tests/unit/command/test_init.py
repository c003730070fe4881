# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``tidegate init`` writes all or nothing, and nothing over anything."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.command import init
from ansible_collections.tidegate.release.plugins.plugin_utils.command.first_release import KINDS
from ansible_collections.tidegate.release.plugins.plugin_utils.command.main import main
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer

HOSTS = ["--hosts", "web1,web2"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("TIDEGATE_", "ANSIBLE_"))]:
        monkeypatch.delenv(name)
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_is_checked_and_found_good(kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", dict(os.environ))  # in which the command sets where the CMDB is
    old = os.umask(0o077)
    try:
        assert main(["init", "--kind", kind, *HOSTS]) == 0
    finally:
        os.umask(old)
    said = capsys.readouterr()
    assert said.err == ""
    commands = [line.strip() for line in said.out.splitlines() if line.startswith("  tidegate ")]
    assert [command.split()[1] for command in commands] == ["import", "archive", "approve", "deploy"]
    assert main(["check"]) == 0
    assert capsys.readouterr().out.startswith("release: release shop 0.1.0, ")
    key = commands[2].split()[-1]
    load_signer(key)
    assert (mode("keys"), mode(key), mode("release"), mode("release/README.md")) == (0o700, 0o600, 0o755, 0o644)
    assert all(mode(str(path)) == 0o755 for path in Path("release").rglob("*") if path.is_dir() or path.parent.name == "bin")
    assert "/keys/" in Path(".gitignore").read_text().splitlines()


@pytest.mark.parametrize("there", ["rfc.yml", "ansible.cfg", ".gitignore", "release", "keys", "dsl", "cmdb.sqlite"])
def test_nothing_is_overwritten_and_nothing_added(there: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / there).write_text("mine")
    assert main(["init", *HOSTS]) == 1
    assert capsys.readouterr().err == (f"tidegate: . has {there} already, and nothing is overwritten; choose another directory\n")
    assert tree(here) == {there: b"mine"}


def test_a_link_that_leads_nowhere_is_there_too(here: Path) -> None:
    (here / "policy.yml").symlink_to("nowhere")
    assert main(["init", *HOSTS]) == 1
    assert os.listdir(here) == ["policy.yml"]


def test_what_fails_half_way_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object, **_options: object) -> None:
        raise OSError(28, "No space left on device", "cmdb.sqlite")

    monkeypatch.setattr(init.Cmdb, "open", full)
    assert main(["init", *HOSTS]) == 1
    assert "can't write cmdb.sqlite: No space left on device" in capsys.readouterr().err
    assert os.listdir(here) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--name", "a b"], "'a b' can't be the release's name"),
        (["--hosts", ""], "the hosts can't be none"),
        (["file/shop"], "Not a directory"),
        (["file"], "file is no directory"),
    ],
)
def test_what_can_not_be_is_one_sentence(given: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").touch()
    assert main(["init", *given]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
    assert os.listdir(here) == ["file"]


def test_a_package_of_debian_needs_what_makes_one(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert main(["init", "--kind", "deb"]) == 1
    assert "this machine has no dpkg-deb" in capsys.readouterr().err
    assert os.listdir(here) == []


def test_at_a_terminal_it_asks_and_an_empty_answer_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = iter(["role", "", "db1=192.0.2.1"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or next(answers))
    assert main(["init", "there"]) == 0
    assert [question.rpartition(" [")[2] for question in asked] == ["process] ", "there] ", "web1,web2] "]
    assert "name: there\n" in Path("there/release/release.yml").read_text()
    assert 'ansible_host: "192.0.2.1"' in Path("there/hosts.yml").read_text()


def test_an_answer_that_is_no_kind_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: "docker")
    assert main(["init", *HOSTS]) == 1
    assert "'docker' is no kind of release; it can be process, systemd" in capsys.readouterr().err
