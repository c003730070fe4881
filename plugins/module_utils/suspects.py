# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files on a host that nobody released, or that were changed since, as whoever scans for malware wants them."""

from __future__ import annotations

import os
import zlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .release_files import open_regular
from .release_home import ReleaseHome

_ALL = 16 << 20  # bytes that one host sends, before they are compressed
_MOST = 2000  # files that one host sends
_DEEPEST = 40


def suspects(root: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The files of the ``changed``, ``extra`` and ``strangers`` in the ``entries`` that `release_facts` has found below ``root``.

    Returns ``files``, each with ``release``, ``path`` in its home, ``data``, compressed with zlib and in base64, and ``since``, when it
    last changed itself; and ``left``, the paths of those that are too large or too many, or can't be read.
    """
    files: list[dict[str, Any]] = []
    left: list[str] = []
    room = _ALL
    for entry in entries:
        home = ReleaseHome(root, entry["name"])
        for path in sorted(set(_paths(home, entry))):
            name = os.fsencode(path).decode(errors="backslashreplace")
            opened = open_regular(os.fsencode(home.path) + b"/" + os.fsencode(path))
            if opened is None:
                if os.path.lexists(home.path / path) and not os.path.islink(home.path / path):
                    left.append(name)
                continue
            descriptor, info = opened
            with open(descriptor, "rb") as stream:
                if info.st_size > room or len(files) >= _MOST:
                    left.append(name)
                    continue
                data = stream.read(info.st_size)
            room -= len(data)
            sent = {"release": home.name, "path": name, "data": b64encode(zlib.compress(data, 1)).decode()}
            files.append({**sent, "since": info.st_ctime})
    return {"files": files, "left": left}


def _paths(home: ReleaseHome, entry: Mapping[str, Any]) -> Iterator[str]:
    trees = {release.version: f"releases/{release.id}/tree" for release in home.all()}
    for part in (entry, *entry["others"]):
        if part["version"] in trees:
            for path in (*part["changed"], *part["extra"]):
                yield from _files(home, f"{trees[part['version']]}/{path}", 0)
    for path in entry["strangers"]:
        yield from _files(home, path, 0)


def _files(home: ReleaseHome, path: str, depth: int) -> Iterator[str]:
    """The path itself, or those of the files below a directory."""
    whole = home.path / path
    if whole.is_dir() and not whole.is_symlink():
        if depth < _DEEPEST:
            for name in os.listdir(whole):
                yield from _files(home, f"{path}/{name}", depth + 1)
    else:
        yield path
