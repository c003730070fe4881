# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host says since when what is found there is so, and no date that somebody gave a file deceives it."""

from __future__ import annotations

import os
import time

from ansible_collections.tidegate.release.plugins.module_utils.release_facts import release_facts
from bed import Host, package


def test_since_when_files_are_changed_missing_or_foreign_is_what_the_file_system_says(host: Host) -> None:
    begin = time.time() - 1
    one = package("1.0")
    host.stage(one)
    assert host.activate(one, None)["state"] == "active"
    (entry,) = release_facts(str(host.root))
    assert set(entry["since"]) == {"live"}
    home = host.root / "hello"
    tree = home / "current"
    (tree / "intruder").write_text("x")
    os.utime(tree / "intruder", (0, 0))
    (home / "other").write_text("x")
    (entry,) = release_facts(str(host.root))
    assert set(entry["since"]) == {"live", "extra", "strangers"}
    first = sorted(path for path in tree.rglob("*") if path.is_file() and path.name != "intruder")[0]
    first.unlink()
    (entry,) = release_facts(str(host.root))
    assert entry["changed"]
    for pair in entry["since"].values():
        assert begin <= pair[0] <= pair[1] <= time.time() + 1, entry["since"]
