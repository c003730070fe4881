# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host says since when what is found there is so, and no date that somebody gave a file deceives it."""

from __future__ import annotations

import os
import struct

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import since
from ansible_collections.tidegate.release.plugins.module_utils.release_facts import release_facts
from ansible_collections.tidegate.release.plugins.module_utils.since import first_to_last
from bed import Host, package


def test_since_when_files_are_changed_missing_or_foreign_is_what_the_file_system_says(host: Host) -> None:
    one = package("1.0")
    host.stage(one)
    assert host.activate(one, None)["state"] == "active"
    home = host.root / "hello"
    tree = home / "current"

    def said() -> dict[str, list[float]]:
        (entry,) = release_facts(str(host.root))
        found: dict[str, list[float]] = entry["since"]
        return found

    live = tree.lstat().st_ctime
    assert said() == {"live": [live, live]}
    for path in (tree / "intruder", tree / "other", home / "stranger"):
        path.write_text("x")
        os.utime(path, (0, 0))
    moments = sorted(path.lstat().st_ctime for path in (tree / "intruder", tree / "other"))
    stranger = (home / "stranger").lstat().st_ctime
    assert min(moments) > 0
    assert said() == {"live": [live, live], "extra": moments, "strangers": [stranger, stranger]}
    missing = next(path for path in tree.rglob("*") if path.is_file() and path.name not in ("intruder", "other"))
    missing.unlink()
    folder = missing.parent.stat().st_ctime
    assert said()["changed"] == [folder, folder]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives capabilities")
def test_since_when_others_may_change_files_and_since_when_the_log_is_gone(host: Host) -> None:
    one = package("1.0")
    host.stage(one)
    assert host.activate(one, None)["state"] == "active"
    home = host.root / "hello"
    file = home / "current" / "version"
    os.setxattr(file, "security.capability", struct.pack("<5I", 0x02000000, 1 << 10, 0, 0, 0))
    (entry,) = release_facts(str(host.root))
    assert entry["since"]["access"] == [file.stat().st_ctime] * 2
    (home / "log.jsonl").unlink()
    (entry,) = release_facts(str(host.root))
    assert (entry["logged"], entry["since"]["log"]) == (False, [home.stat().st_ctime] * 2)


def test_what_is_not_live_any_more_is_so_since_its_home_has_changed(host: Host) -> None:
    one = package("1.0")
    host.stage(one)
    assert host.activate(one, None)["state"] == "active"
    home = host.root / "hello"
    (home / "current").unlink()
    (entry,) = release_facts(str(host.root))
    assert (entry["digest"], entry["since"]) == (None, {"live": [home.stat().st_ctime] * 2})


def test_of_several_moments_one_of_each_second_is_said_between_the_first_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_to_last([5.5]) == [5.5, 5.5]
    assert first_to_last([7.5, 5.5, 5.75, 7.25]) == [5.5, 7.5]
    assert first_to_last([9.0, 5.5, 6.25, 6.5, 7.0]) == [5.5, 6.5, 7.0, 9.0]
    monkeypatch.setattr(since, "_MOST", 2)
    assert first_to_last(map(float, range(10))) == [0, 1, 2, 9]
