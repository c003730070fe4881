# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of a release that somebody else than root may change is not as it was released."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.access import odd_access, sentences
from ansible_collections.tidegate.release.plugins.module_utils.release_facts import release_facts
from bed import Host, package

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")

ONE = package()


@pytest.fixture
def tree(host: Host) -> Path:
    host.deploy(ONE)
    return host.tree(ONE)


def said(host: Host) -> list[str]:
    (entry,) = release_facts(str(host.root))
    assert entry["changed"] == [], "nothing but who may change it is another"
    found: list[str] = entry["access"]
    return found


def acl(*entries: tuple[int, int, int]) -> bytes:
    """As linux/posix_acl_xattr.h has it: tag, permissions, who."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_what_is_as_it_was_released_has_nothing_odd(host: Host, tree: Path) -> None:
    assert said(host) == []


def test_owners_and_groups(host: Host, tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        os.chown(path, 54321, 0)
    assert said(host) == ["belongs to 54321, not to root: ., bin, bin/healthy and 3 more"]
    for path in (tree, *tree.rglob("*")):
        os.chown(path, 0, 0)
    os.chown(tree / "version", 0, 54321)
    assert said(host) == ["is of the group 54321, not of root's: version"]


def test_a_link_to_what_is_another_s_is_looked_at_itself(host: Host) -> None:
    whole = package(files={"linked": {"type": "link", "target": "version"}})
    host.deploy(whole)
    os.chown(host.tree(whole) / "linked", 54321, 0, follow_symlinks=False)
    assert said(host) == ["belongs to 54321, not to root: linked"]


def test_access_lists_that_let_others_write(host: Host, tree: Path) -> None:
    own, group, mask, other, user = (1, 6, 2**32 - 1), (4, 4, 2**32 - 1), (0x10, 6, 2**32 - 1), (0x20, 4, 2**32 - 1), (2, 6, 54321)
    path = tree / "version"
    try:
        os.setxattr(path, "system.posix_acl_access", acl(own, user, group, (0x10, 4, 2**32 - 1), other))
    except OSError as error:
        pytest.skip(f"no access lists here: {error}")
    assert said(host) == [], "the mask takes it away"
    os.setxattr(path, "system.posix_acl_access", acl(own, user, group, mask, other))
    (release,) = host.home.all()
    assert sentences(odd_access(release)) == ["may be written to by others, as its access list has it: version"]


def test_capabilities(host: Host, tree: Path) -> None:
    os.setxattr(tree / "version", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    assert said(host) == ["has capabilities: version"]


def test_what_leads_to_a_release_is_roots_and_nobody_else_writes_there(host: Host, tree: Path) -> None:
    tree.chmod(0o777)
    assert said(host) == ["may be written to by anybody: ."]
    tree.chmod(0o755)
    for place in (host.home.path, host.home.releases, tree.parent):
        before = place.stat().st_mode
        place.chmod(0o777)
        assert said(host) == [f"may be written to by anybody: {place}"]
        place.chmod(before)
    assert said(host) == []
    root = host.home.path.parent
    os.chown(root, 54321, 0)
    assert said(host) == [f"belongs to 54321, not to root: {root}"]
    (entry,) = release_facts(str(host.root))
    assert entry["since"]["access"] == [root.stat().st_ctime] * 2


def test_what_is_missing_is_said_once(host: Host, tree: Path) -> None:
    (tree / "version").unlink()
    (entry,) = release_facts(str(host.root))
    assert (entry["changed"], entry["access"]) == (["version"], [])
