# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release that names a user runs as that user: hooks and checks have its rights, the state is its own, the tree is not."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import account
from ansible_collections.tidegate.release.plugins.module_utils.account import Account, give
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from bed import HOOKS, SERVICE, Host, package

# Users that every Linux has; nothing of theirs is touched.
USER, OTHER = "nobody", "daemon"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def account_of(name: str) -> Account:
    found = pwd.getpwnam(name)
    return Account(name, found.pw_uid, found.pw_gid, (found.pw_gid,), found.pw_dir)


@pytest.fixture
def host() -> Iterator[Host]:
    """Where another user gets to, which is not so below pytest's own directory."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Host(Path(folder) / "root")


def runs_as(user: str | None, version: str = "1.0", **config: Any) -> Any:
    start = SERVICE["bin/start"] + (
        b'id -un >"$TIDEGATE_STATE/user"; id -Gn >"$TIDEGATE_STATE/groups"; umask >"$TIDEGATE_STATE/umask"\n'
        b'echo "$HOME $USER $LOGNAME ${SUDO_USER-} $(pwd)" >"$TIDEGATE_STATE/home"\n'
        b'env | grep "^[A-Z]*=of-root" >"$TIDEGATE_STATE/login"; echo said >/dev/stderr; echo more >/dev/stdout\n'
        b'if touch "$TIDEGATE_TREE/mine" 2>/dev/null; then echo yes; else echo no; fi >"$TIDEGATE_STATE/writes"\n'
    )
    given = {} if user is None else {"user": user}
    return package(version, {"bin/start": start}, **given, **config)


def state(host: Host, name: str) -> str:
    return (host.home.state / name).read_text().strip()


@ROOT
def test_hooks_and_checks_run_as_the_user_and_only_the_state_is_its_own(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    for name in ("TMPDIR", "KRB5CCNAME", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "GNUPGHOME"):
        monkeypatch.setenv(name, "of-root")
    check = {"name": "who", "command": ["sh", "-c", f'[ "$(id -un)" = {USER} ]'], "timeout": 2}
    one = runs_as(USER, health=[check])
    assert host.deploy(one)["state"] == "active"
    found = pwd.getpwnam(USER)
    assert state(host, "user") == USER
    assert "root" not in state(host, "groups").split()
    assert state(host, "umask") == "0022"
    assert state(host, "home") == f"{found.pw_dir} {USER} {USER}  {host.tree(one)}"
    assert state(host, "writes") == "no"
    assert state(host, "login") == ""
    assert host.home.output_of("start").read_text() == "said\nmore\n"
    assert host.home.state.stat().st_uid == found.pw_uid
    tree = [host.tree(one), *host.tree(one).rglob("*")]
    assert {path.lstat().st_uid for path in (*tree, host.home.path, host.home.releases, host.home.output)} == {0}
    assert host.home.output_of("start").stat().st_uid == 0


@ROOT
def test_a_user_that_changes_gets_the_state_and_going_back_gives_it_back(host: Host) -> None:
    one, two, three = runs_as(None), runs_as(USER, "2.0"), runs_as(OTHER, "3.0", hooks=HOOKS)
    assert host.deploy(one)["state"] == "active"
    assert state(host, "user") == "root"
    assert host.deploy(two, one)["state"] == "active"  # whose start hook writes what root has written before
    assert state(host, "user") == USER
    assert host.deploy(three, two)["state"] == "active"
    assert state(host, "user") == OTHER
    assert host.back_out(three, two)["state"] == "backed_out"
    assert state(host, "user") == USER
    assert {path.stat().st_uid for path in (host.home.state, *host.home.state.iterdir())} == {pwd.getpwnam(USER).pw_uid}
    assert host.back_out(two, one)["state"] == "backed_out"
    assert state(host, "user") == "root"


@ROOT
def test_a_release_that_does_not_come_up_gives_the_state_back(host: Host) -> None:
    one = runs_as(USER)
    host.deploy(one)
    broken = {**HOOKS, "start": {"command": ["false"], "timeout": 5}}
    assert host.deploy(runs_as(OTHER, "2.0", hooks=broken), one)["state"] == "failed"
    assert host.home.state.stat().st_uid == pwd.getpwnam(USER).pw_uid
    assert state(host, "user") == USER


@ROOT
def test_a_state_that_a_hook_of_root_gave_away_stays_so_without_a_user_in_the_manifest(host: Host) -> None:
    host.deploy(runs_as(None))
    os.chown(host.home.state, 1, 1)
    assert host.deploy(runs_as(None, "2.0"), runs_as(None))["state"] == "active"
    assert host.home.state.stat().st_uid == 1


def test_a_user_that_the_host_does_not_have_is_refused_before_anything_is_stopped(host: Host) -> None:
    one, two = package("1.0"), runs_as("no-such-user", "2.0")
    host.deploy(one)
    calls = host.calls
    with pytest.raises(HostError, match=r"hello 2\.0 runs as the user no-such-user, which this host does not have; make it"):
        host.stage(two)
    assert (host.calls, host.running, host.live) == (calls, "1.0", "1.0")


@ROOT
def test_a_user_that_is_gone_since_staging_is_refused_before_anything_is_stopped(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = package("1.0"), runs_as(USER, "2.0")
    host.deploy(one)
    host.stage(two)
    calls = host.calls

    def gone(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(account.pwd, "getpwnam", gone)
    with pytest.raises(HostError, match="which this host does not have"):
        host.activate(two, one)
    assert (host.calls, host.running) == (calls, "1.0")


@ROOT
def test_a_user_who_can_not_get_to_the_tree_is_refused(host: Host) -> None:
    host.root.mkdir(mode=0o700)
    with pytest.raises(HostError, match=f"runs as the user {USER}, who can't get into {host.root}/hello/releases; let everybody pass"):
        host.stage(runs_as(USER))


def test_without_root_another_user_is_refused_and_one_s_own_is_not(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(HostError, match=f"runs as the user {USER}, which only root can become"):
        account.find_account({"name": "hello", "version": "1.0", "user": USER})
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam(USER).pw_uid)
    assert account.check_account({"name": "hello", "version": "1.0", "user": USER, "health": []}, [], host.root)


def test_a_program_that_the_user_may_not_run_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(account, "_gets_into", lambda *_: True)
    config = {"name": "hello", "version": "1.0", "user": USER, "health": [], "hooks": {"start": {"command": ["./bin/start"]}}}
    modes = {"bin": 0o755, "bin/start": 0o750}
    files = [{"path": path, "type": "file", "mode": mode} for path, mode in modes.items()]
    with pytest.raises(HostError, match=r"may not run bin/start: bin/start has mode 0750; archive the release with one of 0755"):
        account.check_account(config, files, host.root)


@ROOT
def test_what_a_user_plants_in_its_state_gets_nobody_s_files(tmp_path: Path) -> None:
    """Links, names of files elsewhere and what is a third one's stay whose they are; pipes are not waited for."""
    state, outside = tmp_path / "state", tmp_path / "outside"
    (state / "deep").mkdir(parents=True)
    outside.mkdir()
    secret = outside / "shadow"
    secret.write_text("secret")
    (state / "link").symlink_to(secret)
    (state / "folder").symlink_to(outside)
    os.link(secret, state / "deep" / "name")
    os.mkfifo(state / "pipe")
    (state / "theirs").touch()
    os.chown(state / "theirs", 3, 3)
    (state / "deep" / "own").touch()
    for path in (state, state / "deep", state / "deep" / "own"):
        os.chown(path, 1, 1)
    give(state, account_of(USER), changed=True)
    uid = pwd.getpwnam(USER).pw_uid
    assert [path.stat().st_uid for path in (secret, outside, state / "deep" / "name")] == [0, 0, 0]
    assert [path.lstat().st_uid for path in (state, state / "deep", state / "deep" / "own", state / "pipe", state / "link")] == [uid] * 5
    assert (state / "theirs").stat().st_uid == 3


@ROOT
def test_a_link_in_place_of_the_state_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "state").symlink_to("outside")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        give(tmp_path / "state", account_of(USER), changed=True)
    assert (tmp_path / "outside").stat().st_uid == 0


@ROOT
def test_a_file_that_becomes_a_link_while_it_is_looked_at_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, secret = tmp_path / "state", tmp_path / "shadow"
    state.mkdir()
    secret.write_text("secret")
    (state / "file").symlink_to(secret)
    stat = os.stat

    def before(path: Any, **options: Any) -> os.stat_result:
        return stat(secret) if path == "file" else stat(path, **options)

    monkeypatch.setattr(account.os, "stat", before)
    give(state, account_of(USER), changed=True)
    assert stat(secret).st_uid == 0
