# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was released and lies elsewhere on a host is found by its content, and nothing else is taken for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import copies
from ansible_collections.tidegate.release.plugins.module_utils.copies import find_copies
from ansible_collections.tidegate.release.plugins.module_utils.release_files import open_regular
from bed import Host, package

LICENCE = b"Permission is hereby granted, free of charge, to any person\n"
ONE, TWO = (
    package(version, files={"LICENCE": LICENCE, "lib/tool.py": f"VALUE = {version}  # of this version\n".encode()})
    for version in ("1.0", "2.0")
)


@pytest.fixture
def place(host: Host, tmp_path: Path) -> Path:
    host.deploy(ONE)
    host.deploy(TWO, ONE)
    folder = tmp_path / "srv"
    folder.mkdir()
    return folder


def looked(host: Host, *places: Path) -> list[dict[str, Any]]:
    answer = find_copies(str(host.root), map(str, places))
    assert answer["problems"] == []
    found: list[dict[str, Any]] = answer["found"]
    return found


def test_a_copy_of_a_payload_is_found_and_the_live_release_counts(host: Host, place: Path) -> None:
    shutil.copytree(host.tree(ONE), place / "deep" / "down" / "app")
    (found,) = looked(host, place)
    assert (found["path"], found["home"]) == (str(place / "deep"), False)
    assert (found["release"], found["version"], found["count"]) == ("hello", "2.0", 4), "what both have is the live one's"
    assert found["files"] == [str(place / "deep" / "down" / "app" / name) for name in ("LICENCE", "bin/healthy", "bin/start")]
    moments = sorted(path.lstat().st_ctime for path in (place / "deep" / "down" / "app").rglob("*") if path.is_file())
    assert moments[0] <= found["since"][0] <= found["since"][1] <= moments[-1]


def test_one_program_is_a_copy_and_a_licence_is_none(host: Host, place: Path) -> None:
    (place / "LICENCE").write_bytes(LICENCE)
    assert looked(host, place) == []
    shutil.copy(host.tree(TWO) / "bin" / "start", place / "renamed")
    (found,) = looked(host, place)
    assert (found["path"], found["files"], found["count"]) == (str(place / "renamed"), [str(place / "renamed")], 1)


def test_what_is_not_as_long_as_any_file_of_a_release_is_not_opened(host: Host, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []

    def open_noting(path: bytes) -> Any:
        opened.append(path)
        return open_regular(path)

    monkeypatch.setattr(copies, "open_regular", open_noting)
    for size in range(4000, 4100):
        (place / f"of {size}").write_bytes(b"x" * size)
    assert (looked(host, place), opened) == ([], [])
    shutil.copy(host.tree(TWO) / "bin" / "start", place / "renamed")
    assert len(looked(host, place)) == 1
    assert opened == [os.fsencode(place / "renamed")]


def test_what_is_only_as_long_is_no_copy(host: Host, place: Path) -> None:
    size = (host.tree(TWO) / "bin" / "start").stat().st_size
    (place / "other").write_bytes(b"x" * size)
    assert looked(host, place) == []


def test_what_is_below_the_root_belongs_there(host: Host, place: Path) -> None:
    assert looked(host, host.root.parent, host.root) == []


def test_a_second_root_is_found(host: Host, place: Path) -> None:
    shutil.copytree(host.root, place / "tidegate2", symlinks=True)
    (found,) = looked(host, place)
    home = place / "tidegate2" / "hello"
    assert found == {"path": str(home), "home": True, "release": "hello", "version": "2.0", "since": [home.stat().st_ctime] * 2}
    (place / "tidegate2" / "hello" / "current").unlink()
    assert looked(host, place)[0]["version"] == ""


def test_no_link_is_followed_and_nothing_odd_is_opened(host: Host, place: Path) -> None:

    (place / "link").symlink_to(host.tree(TWO))
    os.mkfifo(place / "pipe")
    assert looked(host, place, place / "link", place / "nowhere") == []


def test_a_place_that_is_a_link_is_looked_at_where_it_leads(host: Host, place: Path) -> None:
    shutil.copytree(host.root, place / "tidegate2", symlinks=True)
    link = place.with_name("led")
    link.symlink_to(place)
    assert [one["path"] for one in looked(host, place, link)] == [str(place / "tidegate2" / "hello")]


def test_what_was_not_looked_at_is_said(host: Host, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_MOST", 3)
    for number in range(5):
        (place / str(number)).touch()
    assert find_copies(str(host.root), [str(place)])["problems"] == [f"{place} has more than 3 entries, and only so many were looked at"]
