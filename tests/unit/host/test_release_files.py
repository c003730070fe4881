# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading files that somebody else may have put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.release_files import open_regular


@pytest.mark.parametrize("kind", ["nothing", "pipe", "folder", "link"])
def test_nothing_but_a_file_is_opened_and_nothing_stays_open(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "b").touch()
        path.symlink_to("b")
    before = os.listdir("/proc/self/fd")
    assert open_regular(os.fsencode(path)) is None
    assert os.listdir("/proc/self/fd") == before
