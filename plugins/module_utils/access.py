# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may change the files of a release: their owner, their group, access lists and capabilities, which no release brings."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable

from .release_home import ReleaseHome
from .release_record import Release

_NAMED = 3  # paths that a sentence names
_OPEN = "may be written to by anybody"
_ACL = ("system.posix_acl_access", "system.posix_acl_default")
_CAPABILITY = "security.capability"
# Tags of linux/posix_acl_xattr.h: the entries that are beside those that the mode says, and the mask that they are cut by.
_ACL_OTHERS, _ACL_MASK, _ACL_WRITE = (0x02, 0x08), 0x10, 0x02
_ACL_ENTRY = struct.Struct("<HHI")


def odd_access(release: Release) -> dict[str, list[str]]:
    """By what is not as every release has it, the paths of which that is so. Raises :class:`OSError` for none of its files."""
    root = os.fsencode(release.tree)
    found: dict[str, list[str]] = {}
    for path in ("", *(entry["path"] for entry in release.files)):
        for what in _odd(root + b"/" + path.encode() if path else root):
            found.setdefault(what, []).append(path or ".")
    with contextlib.suppress(FileNotFoundError):  # that there is no tree is said elsewhere
        if os.lstat(root).st_mode & stat.S_IWOTH:  # of whatever else is in there the mode is a part of the release
            found.setdefault(_OPEN, []).append(".")
    return found


def open_folders(home: ReleaseHome, release: Release) -> dict[str, list[str]]:
    """By why somebody besides root may exchange what leads to ``release``, the directories of which that is so, and its record."""
    found: dict[str, list[str]] = {}
    folder = release.tree.parent
    for place in (home.path.parent, home.path, home.releases, folder, folder / "release.json"):
        for why in _who_writes(os.fsencode(place)):
            found.setdefault(why, []).append(str(place))
    return found


def _who_writes(path: bytes) -> Iterator[str]:
    try:
        info = os.lstat(path)
    except OSError:  # it is missing, which is said elsewhere
        return
    if info.st_uid not in (0, os.geteuid()):
        yield f"belongs to {_name(info.st_uid, _user)}, not to root"
    if info.st_mode & stat.S_IWGRP and info.st_gid not in (0, os.getegid()):
        yield f"may be written to by the group {_name(info.st_gid, _group)}"
    if info.st_mode & stat.S_IWOTH:
        yield _OPEN
    if any(_lets_write(path, name) for name in _ACL):
        yield "may be written to by others, as its access list has it"


def sentences(odd: Mapping[str, Sequence[str]]) -> list[str]:
    """What :func:`odd_access` has found, a sentence for each."""
    return [
        f"{what}: {', '.join(paths[:_NAMED])}{f' and {len(paths) - _NAMED} more' if paths[_NAMED:] else ''}" for what, paths in odd.items()
    ]


def _odd(path: bytes) -> Iterator[str]:
    try:
        info = os.lstat(path)
        attributes = () if stat.S_ISLNK(info.st_mode) else os.listxattr(path, follow_symlinks=False)
    except OSError:  # it is missing, which is said elsewhere, or its file system has no attributes
        attributes = ()
        if not os.path.lexists(path):
            return
        info = os.lstat(path)
    if info.st_uid not in (0, os.geteuid()):
        yield f"belongs to {_name(info.st_uid, _user)}, not to root"
    if info.st_gid not in (0, os.getegid()) and not stat.S_ISLNK(info.st_mode):
        yield f"is of the group {_name(info.st_gid, _group)}, not of root's"
    if _CAPABILITY in attributes:
        yield "has capabilities"
    if any(_lets_write(path, name) for name in _ACL if name in attributes):
        yield "may be written to by others, as its access list has it"


def _lets_write(path: bytes, name: str) -> bool:
    """Whether an access list lets anybody write but those that the mode of the file says."""
    try:
        text = os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return False
    entries = [_ACL_ENTRY.unpack_from(text, place) for place in range(4, len(text) - _ACL_ENTRY.size + 1, _ACL_ENTRY.size)]
    mask = next((permissions for tag, permissions, _who in entries if tag == _ACL_MASK), _ACL_WRITE)
    return any(tag in _ACL_OTHERS and permissions & mask & _ACL_WRITE for tag, permissions, _who in entries)


def _name(number: int, find: Callable[[int], str]) -> str:
    try:
        return f"{find(number)} ({number})"
    except KeyError:
        return str(number)


def _user(number: int) -> str:
    import pwd  # noqa: PLC0415 - few hosts have anything to say

    return pwd.getpwuid(number).pw_name


def _group(number: int) -> str:
    import grp  # noqa: PLC0415 - as above

    return grp.getgrgid(number).gr_name
