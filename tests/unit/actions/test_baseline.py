# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which archived version is there, by what a host was read to say: one that is known and trusted, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.baseline import ArchivedVersion, archived_versions, find_baseline
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from releases import spoil, write_release

WANTED, ONE, OTHER, TREE = (
    ArchivedVersion("2.0", "sha256:2", "2.0"),
    ArchivedVersion("1.0", "sha256:1", "R1"),
    ArchivedVersion("1.1", "sha256:11", "R1"),
    ArchivedVersion("0.9", "sha256:9", None),
)
Doubt = Callable[[str, str], str]


def trusted(_version: str, _digest: str) -> str:
    return ""


def find(text: str, *archived: ArchivedVersion, installed: str | None = None, distrust: Doubt = trusted) -> Mapping[str, str]:
    return find_baseline("hello", text, WANTED.digest, [WANTED, TREE, *archived], installed, distrust)


def test_it_is_the_version_that_is_read_so() -> None:
    assert find("R1", ONE) == {"version": "1.0", "digest": "sha256:1"}
    assert find("2.0", ONE) == {"version": "2.0", "digest": "sha256:2"}


@pytest.mark.parametrize("text", ["0.9", "1.0", "r1", "R1 "])
def test_what_no_version_is_read_as_is_refused(text: str) -> None:
    with pytest.raises(TidegateError, match=rf"it says {text}, and there is no archived version of hello to bring it back to; archive one"):
        find(text, ONE)


def test_of_several_it_is_the_one_on_record_or_nobody_knows() -> None:
    assert find("R1", ONE, OTHER, installed="sha256:11")["version"] == "1.1"
    with pytest.raises(TidegateError, match=r"as with each of hello 1\.0 and hello 1\.1, and it is not known which it has"):
        find("R1", ONE, OTHER, installed="sha256:9")
    assert find("R1", ONE, OTHER, distrust=lambda version, _digest: "" if version == "1.1" else "nobody signed it")["version"] == "1.1"


def test_one_that_is_not_trusted_is_refused_with_the_reason() -> None:
    with pytest.raises(TidegateError, match=r"no archived version of hello to bring it back to: nobody signed it"):
        find("R1", ONE, distrust=lambda *_: "nobody signed it")


def test_the_library_says_how_each_version_is_read(tmp_path: Path) -> None:
    read: dict[str, Any] = {"effect": "outside", "hooks": {"read": {"command": ["true"]}}}
    home = OciLayout.create(tmp_path / "dsl")
    digests = [
        archive(write_release(tmp_path / version, version=version, **more), home).digest
        for version, more in (("1.0", read), ("1.1", {**read, "reads": "R1"}), ("0.9", {}), ("3.0", read))
    ]
    spoil(home, digests[3])
    found = [(one.version, one.reads) for one in archived_versions(home, "hello")]
    assert found == [("1.1", "R1"), ("1.0", "1.0"), ("0.9", None)]
