# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a package that would be archived."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import Manifest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import Archived
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.payload import FileEntry
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.archive import describe

MANIFEST = Manifest("hello", "1.0", "minor", "Says hello", "payload", ("README.md",), health=({"name": "up", "tcp": {}},))


def tree(**contents: str) -> tuple[FileEntry, ...]:
    files = [FileEntry(f"bin/{name}", "file", 0o644, 1, sha256) for name, sha256 in contents.items()]
    return (FileEntry("bin", "directory", 0o755), *files)


def test_files_that_are_as_before_are_counted_like_those_of_the_first_line() -> None:
    """A directory is none of them, or of two files one would be changed and two not."""
    now = Archived("sha256:0", "hello", "1.1", True, 2, 2, tree(start="a", stop="b"))
    before: Any = SimpleNamespace(manifest=MANIFEST, files=tree(start="a", stop="c"))
    lines = describe(now, MANIFEST, before, None)
    assert lines[0].startswith("2 files of 2 bytes")
    assert lines[1] == "against 1.0: 1 changed (bin/stop), 1 as before"
