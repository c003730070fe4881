# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a killed run left goes with the next one of its kind; what anybody may still use stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout import leftovers
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import (
    OWNER,
    left_behind,
    log_of,
    mark,
    remove,
    sweep_logs,
    sweep_run_directories,
    temporary_directory,
)

PREFIX = "tidegate-kind-"
LIVE = Holder.this_run()
DEAD = replace(LIVE, started=LIVE.started + 1)


def directory(parent: Path, name: str, owner: Holder | None = DEAD) -> Path:
    folder = parent / name
    folder.mkdir(0o700)
    (folder / "pack").write_text("much")
    if owner:
        (folder / OWNER).write_text(str(owner))
    return folder


def test_only_what_a_run_left_that_has_ended_is_found(tmp_path: Path) -> None:
    left = [directory(tmp_path, f"{PREFIX}{number}") for number in range(2)]
    directory(tmp_path, f"{PREFIX}of-a-live-run", LIVE)
    directory(tmp_path, f"{PREFIX}of-another-machine", replace(DEAD, machine="elsewhere"))
    directory(tmp_path, f"{PREFIX}of-nobody", None)
    directory(tmp_path, "of-another-kind")
    (directory(tmp_path, f"{PREFIX}odd") / OWNER).write_bytes(b"\xff\0" * 5000)
    (tmp_path / f"{PREFIX}file").write_text(str(DEAD))
    assert left_behind(tmp_path, PREFIX) == left
    assert left_behind(tmp_path / "nowhere", PREFIX) == []


def test_nothing_is_found_behind_a_link_or_that_others_can_write(tmp_path: Path) -> None:
    elsewhere = directory(tmp_path, "elsewhere")
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    linked = directory(tmp_path, f"{PREFIX}owner", None)
    (linked / OWNER).symlink_to(elsewhere / OWNER)
    directory(tmp_path, f"{PREFIX}open").chmod(0o770)
    (directory(tmp_path, f"{PREFIX}owned") / OWNER).chmod(0o602)
    os.mkfifo(directory(tmp_path, f"{PREFIX}pipe", None) / OWNER)
    assert left_behind(tmp_path, PREFIX) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to somebody else")
def test_what_is_somebody_else_s_is_not_found(tmp_path: Path) -> None:
    os.chown(directory(tmp_path, f"{PREFIX}theirs"), 12345, -1)
    os.chown(directory(tmp_path, f"{PREFIX}half") / OWNER, 12345, -1)
    assert left_behind(tmp_path, PREFIX) == []


def test_what_is_removed_is_not_what_a_link_in_it_leads_to(tmp_path: Path) -> None:
    elsewhere, folder = directory(tmp_path, "elsewhere"), directory(tmp_path, f"{PREFIX}1")
    (folder / "link").symlink_to(elsewhere)
    assert remove(folder)
    assert (elsewhere / "pack").exists()
    assert not folder.exists()


def test_a_directory_that_something_is_mounted_in_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = directory(tmp_path, f"{PREFIX}1")
    real = Path.read_text
    table = f"36 35 98:0 / {folder}/a\\040place rw - ext3 /dev/root rw\n"
    monkeypatch.setattr(Path, "read_text", lambda path, **more: table if str(path) == "/proc/self/mountinfo" else real(path, **more))
    assert not remove(folder)
    assert (folder / "pack").exists()
    table = f"36 35 98:0 / {folder}2 rw - ext3 /dev/root rw\n"
    assert remove(folder)


def test_a_mark_says_whose_a_directory_is_and_stays(tmp_path: Path) -> None:
    mark(tmp_path)
    assert Holder.parse((tmp_path / OWNER).read_text().splitlines()[0]) == LIVE
    assert left_behind(tmp_path.parent, tmp_path.name) == []
    (tmp_path / OWNER).write_text(str(DEAD))
    mark(tmp_path)
    assert Holder.parse((tmp_path / OWNER).read_text()) == DEAD


@pytest.mark.parametrize(
    ("boot", "machine", "here", "left"),
    [
        ("feedbeef", "1" * 32, "1" * 32, True),
        ("feedbeef", "1" * 32, "2" * 32, False),
        ("feedbeef", "", "", False),
        ("unknown", "1" * 32, "1" * 32, False),
        (LIVE.boot, "1" * 32, "1" * 32, False),
    ],
)
def test_what_was_left_before_this_machine_was_started_anew_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str, machine: str, here: str, left: bool
) -> None:
    monkeypatch.setattr(leftovers, "_machine_id", lambda: here)
    folder = directory(tmp_path, f"{PREFIX}1", None)
    (folder / OWNER).write_text(f"{replace(LIVE, boot=boot)}\n{machine}\n")
    assert left_behind(tmp_path, PREFIX) == ([folder] if left else [])


RUN = """
import sys, time
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import temporary_directory
with temporary_directory("tidegate-kind-") as folder:
    (folder / "copy").write_text("much")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_temporary_directory_goes_at_the_end_or_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(leftovers.tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as run:
        assert run.stdout
        killed = Path(run.stdout.readline().strip()).parent
        with temporary_directory(PREFIX) as own:
            assert killed.exists()  # its run is alive
            assert own.parent.parent == tmp_path
            assert list(own.iterdir()) == []
        assert not own.parent.exists()
        run.send_signal(signal.SIGKILL)
        run.wait()
    with temporary_directory(PREFIX):
        assert not killed.exists()
    assert list(tmp_path.iterdir()) == []


def test_of_a_killed_run_s_directory_only_what_is_ours_goes(tmp_path: Path) -> None:
    own = tmp_path / "ansible-local-1own"
    own.mkdir(0o700)
    mark(own)
    left, shared, live = (directory(tmp_path, f"ansible-local-{name}", owner) for name, owner in (("2", DEAD), ("3", DEAD), ("4", LIVE)))
    for folder in (left, shared, live):
        (folder / "pack").unlink()
        (folder / "tidegate-packs").mkdir()
        (folder / "tidegate-packs" / "x.pack").write_text("much")
        (folder / "tidegate-verdict").write_text("well")
    (shared / "somebody's").write_text("else")
    (shared / "tidegate-link").symlink_to(live)
    sweep_run_directories(own)
    assert not left.exists()
    assert sorted(os.listdir(shared)) == ["somebody's", OWNER]
    assert sorted(os.listdir(live)) == [OWNER, "tidegate-packs", "tidegate-verdict"]
    assert own.exists()
    sweep_run_directories(own)


def test_what_another_run_removes_meanwhile_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "ansible-local-1own"
    own.mkdir(0o700)
    gone, left = (directory(tmp_path, f"ansible-local-{number}") for number in (2, 3))
    (left / "pack").unlink()

    def overtaken(parent: Path, prefix: str) -> list[Path]:
        found = left_behind(parent, prefix)
        shutil.rmtree(gone)
        return found

    monkeypatch.setattr(leftovers, "left_behind", overtaken)
    sweep_run_directories(own)
    assert list(tmp_path.iterdir()) == [own]


def test_logs_go_to_which_nothing_was_written_for_long_and_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    limit = datetime(2026, 3, 1, tzinfo=UTC)
    sweep_logs(limit)  # where there are none
    old, new, shared = log_of("CHG0001#1", 1), log_of("CHG0001#1", 2), log_of("CHG0002#2", None)
    old.parent.mkdir()
    other, link = old.parent / "notes.txt", old.parent / "link.log"
    for path in (old, new, shared, other):
        path.touch(0o600)
    shared.chmod(0o620)
    link.symlink_to(other)
    for path in (old, shared, other, link):
        os.utime(path, times=(0, limit.timestamp() - 1), follow_symlinks=False)
    os.utime(new, times=(0, limit.timestamp()))
    sweep_logs(limit)
    assert sorted(old.parent.iterdir()) == sorted([new, shared, other, link])
