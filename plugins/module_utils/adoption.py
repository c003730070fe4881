# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adoption: a tree that somebody put on this host, and that runs, becomes a release here, without anything being stopped.

The tree is read, and held against a package. When it is that, byte by byte, the release is laid out beside it and becomes the live one, so
that the next has one to go back to. What runs goes on from its old place until then.
"""

from __future__ import annotations

import os
import stat
import zlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Optional

from .account import check_account
from .build import build
from .package_documents import Documents, read_package
from .release_files import changed_files, open_regular, range_digest
from .release_home import HostError, Release, ReleaseHome, Texts
from .release_hooks import Order, outside_fault, trouble, values_for

_CACHE = "__pycache__"  # Python makes it anew, so it is no part of any release
_COMPARED = 0o7755  # of a mode; whether the group may write is what a umask made of it
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NAMED = 10  # paths that a message names


def survey(path: str, leave: Sequence[str]) -> dict[str, Any]:
    """What is in the tree at ``path``: ``path`` without links in it, and ``files``, entries as in a file index, parents first.

    ``leave``: patterns of what does not belong to the release, for a name or a whole path in the tree; a directory goes with all in it.
    Raises :class:`HostError` for what is no directory, for what can't be in a release and for another file system in the tree, and
    :class:`OSError` for what can't be read.
    """
    root = _root(path)
    return {"state": "surveyed", "path": root, "files": list(_entries(root, leave))}


def contents(path: str, wanted: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Bytes of files in the tree at ``path``: ``data``, one part behind the other, compressed with zlib and in base64.

    ``wanted``: of each part the path in the tree, where it begins and how many bytes it has. Raises :class:`HostError` where there
    is none.
    """
    root = _root(path)
    parts = []
    for name, offset, size in wanted:
        descriptor = _open_below(root, name)
        if descriptor is None:
            raise HostError(f"{path}/{name} is no file any more; run this again when nothing writes there")
        try:
            parts.append(os.pread(descriptor, size, offset))
        finally:
            os.close(descriptor)
    return {"state": "read", "data": b64encode(zlib.compress(b"".join(parts), 1)).decode("ascii")}


def adopt(root: str, name: str, digest: str, texts: Texts, path: str, leave: Sequence[str], order: Order, write: bool) -> dict[str, Any]:
    """Make the release ``digest`` the live one here if the tree at ``path`` is its payload and its health checks pass, and stop nothing.

    ``texts`` are the package's documents. Returns ``state`` ``adopted``, or ``differs`` with the ``detail``; without ``write`` nothing is
    touched, and ``changed`` says whether it would be. Raises :class:`HostError` when this host can't have the release, and when another
    one is live here.
    """
    package = read_package(digest, *texts)
    home = ReleaseHome(root, name)
    if not write:
        return _adopt(home, digest, package, path, leave, order, write)
    with home.locked(120):
        return _adopt(home, digest, package, path, leave, order, write)


def _adopt(
    home: ReleaseHome, digest: str, package: Documents, path: str, leave: Sequence[str], order: Order, write: bool
) -> dict[str, Any]:
    version = package.config["version"]
    release_id = home.id_of(version, digest)
    live = home.live()
    if live is not None and live.digest != digest:
        raise HostError(f"{home.name} {live.version} is live here, which is a release already; there is nothing to adopt")
    if live is not None and home.at_rest(live):
        return {"state": "adopted", "changed": False, "version": version}
    place = Path(_root(path))
    there = Release(release_id, home.name, version, digest, package.config, package.files, place)
    problem = _difference(there, leave)
    if not problem and there.has_packages:
        from .system_packages import differences, refuse_owned  # noqa: PLC0415 - few releases bring packages

        refuse_owned(home, there)
        problem = "; ".join(one.sentence for one in differences(there))
    if not problem:
        check_account(package.config, package.files, place)
        values_for(home, there, order)
        problem = trouble(home, there, order) or outside_fault(home, there, order)
    if problem:
        return {"state": "differs", "changed": False, "version": version, "detail": order.redactor.text(problem)}
    if write:
        _lay_out(home, package, there)
    return {"state": "adopted", "changed": True, "version": version}


def _lay_out(home: ReleaseHome, package: Documents, there: Release) -> None:
    """Copy the tree to its place and make it the live one. What was interrupted is done again: the log's last line is the end of it."""
    release = home.get(there.id)
    if release is None or changed_files(release):
        work = home.staging / there.id
        files = [entry for entry in package.files if entry["type"] == "file"]
        also = {entry["sha256"]: os.path.join(os.fsencode(there.tree), entry["path"].encode()) for entry in files}
        built = build(home, package.files, work, record=package.texts, also=also)
        if built["need"]:
            raise HostError(f"{there.tree} changed while it was copied; run this again when nothing writes there")
        home.put(work, there.id)
        home.append("staged", there.id, version=there.version, digest=there.digest, adopted=str(there.tree))
    release = home.get(there.id)
    if release is None:
        raise HostError(f"{there.version} is not whole in {home.releases}; find out who writes there, and run this again")
    home.flip(release)
    home.append("active", release.id, adopted=str(there.tree))


def _difference(there: Release, leave: Sequence[str]) -> str:
    """How the tree differs from the package, in words; nothing when it is the same."""
    wanted = {entry["path"]: entry for entry in there.files}
    found = {entry["path"]: entry for entry in _entries(str(there.tree), leave)}
    said = []
    for what, paths in (
        ("lacks", [path for path in wanted if path not in found]),
        ("has besides", [path for path in found if path not in wanted]),
        ("has otherwise", [path for path, entry in wanted.items() if path in found and not _same(found[path], entry)]),
    ):
        if paths:
            more = len(paths) - _NAMED
            said.append(f"{what} {', '.join(sorted(paths)[:_NAMED])}{f' and {more} more' if more > 0 else ''}")
    return f"{there.tree} is not {there.name} {there.version}: it {'; it '.join(said)}" if said else ""


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    keys = ("type", "size", "sha256", "target")
    return all(one.get(key) == other.get(key) for key in keys) and _mode(one) == _mode(other)


def _mode(entry: dict[str, Any]) -> Optional[int]:
    return entry["mode"] & _COMPARED if "mode" in entry else None


def _root(path: str) -> str:
    root = os.path.realpath(path)
    if not os.path.isabs(path) or not os.path.isdir(root):
        raise HostError(f"{path} is no directory here; name the one that the release runs from, from / on")
    return root


def _entries(root: str, leave: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Everything in a tree but what is left; a directory before what is in it."""
    folder = os.open(root, _DIRECTORY)
    try:
        yield from _walk(folder, os.fstat(folder).st_dev, root, "", leave)
    finally:
        os.close(folder)


def _walk(folder: int, device: int, root: str, prefix: str, leave: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What is in an open directory: by its handle, for whoever writes in the tree could make the name a link to elsewhere."""
    for raw in sorted(map(os.fsencode, os.listdir(folder))):
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise HostError(f"{root}/{prefix} has a name in it that is no UTF-8; rename it, or leave that directory out") from None
        path = prefix + name
        if name == _CACHE or any(fnmatchcase(name, one) or fnmatchcase(path, one) for one in leave):
            continue
        info = os.stat(raw, dir_fd=folder, follow_symlinks=False)
        entry: dict[str, Any] = {"path": path, "mode": stat.S_IMODE(info.st_mode)}
        if stat.S_ISDIR(info.st_mode):
            if info.st_dev != device:
                raise HostError(
                    f"another file system is mounted at {root}/{path}, and whose it is nobody knows here; leave it out, or unmount it first"
                )
            yield {**entry, "type": "directory"}
            inner = os.open(raw, _DIRECTORY, dir_fd=folder)
            try:
                yield from _walk(inner, device, root, f"{path}/", leave)
            finally:
                os.close(inner)
        elif stat.S_ISLNK(info.st_mode):
            yield {"path": path, "type": "link", "target": os.readlink(raw, dir_fd=folder).decode(errors="backslashreplace")}
        else:
            yield {**entry, **_file(folder, raw, f"{root}/{path}")}


def _file(folder: int, name: bytes, path: str) -> dict[str, Any]:
    found = open_regular(name, folder)
    if found is None:
        raise HostError(f"{path} is no file, directory or link, or can't be read; leave it out")
    descriptor, info = found
    try:
        return {"type": "file", "size": info.st_size, "sha256": range_digest(descriptor, 0, info.st_size)}
    finally:
        os.close(descriptor)


def _open_below(root: str, path: str) -> Optional[int]:
    """The file ``path`` in a tree, open to be read, nothing when there is none; no link in it is followed."""
    *above, name = path.split("/")
    folder = os.open(root, _DIRECTORY)
    try:
        for part in above:
            inner = os.open(part.encode(), _DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        found = open_regular(name.encode(), folder)
    except OSError:
        return None
    finally:
        os.close(folder)
    return found[0] if found else None
