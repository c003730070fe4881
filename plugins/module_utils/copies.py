# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was released, and lies in another place than below the root: whole homes of releases, and copies of files.

Sizes are compared first, so a file that is like none of a release is never opened.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

from .release_files import open_regular, range_digest
from .release_home import NAME, ReleaseHome
from .since import first_to_last

_SMALLEST = 32  # bytes: what is shorter may be the same by chance
_MOST = 200_000  # files of one place that are looked at
_DEEPEST = 40  # directories within one another
_LISTED = 3  # paths that the answer has of each copy


class _Content(NamedTuple):
    """A file of a release: where it is in there, of which one, and whether it is a program."""

    path: str
    release: str
    version: str
    program: bool


def find_copies(root: str, places: Iterable[str]) -> dict[str, Any]:
    """Look for what was released in ``places``, directories of this host, but not below ``root``, where it belongs.

    What the files of releases are is said by those that are complete below ``root``. Returns ``found``, for each home, and each entry of a
    place that has copies: ``path``, ``release``, ``version`` (empty for a home with none that is live), ``home``, ``since`` (the
    moments at which it came about) and, but for a home, ``count`` and the first ``files``. A single file that is no program
    is no copy: licences and the like are everywhere. ``problems`` has a sentence for each place that was not looked at to its end.
    """
    contents = _contents(root)
    found, problems = [], []
    own = os.path.realpath(root)
    for place in sorted({os.path.realpath(place) if os.path.islink(place) else os.path.normpath(place) for place in places}):
        if not os.path.isdir(place) or f"{place}/".startswith(f"{own}/"):
            continue
        walk = _Walk(place, own)
        copies: dict[tuple[str, str, str], dict[str, _Content]] = {}
        for path, size in walk.files():
            content = _like(path, contents.get(size))
            if content is not None:
                top = path[len(place) :].lstrip("/").partition("/")[0]
                copies.setdefault((os.path.join(place, top), content.release, content.version), {})[path] = content
        found += [{"path": path, "home": True, **_home(path)} for path in walk.homes]
        for (top, release, version), files in sorted(copies.items()):
            if len({content.path for content in files.values()}) > 1 or any(content.program for content in files.values()):
                listed = sorted(path for path in files)[:_LISTED]
                about = {"release": release, "version": version, "count": len(files), "files": [_text(path) for path in listed]}
                about["since"] = _since(files)
                found.append({"path": _text(top), "home": False, **about})
        problems += walk.problems
    return {"found": found, "problems": problems}


class _Walk:
    """The files of one place, on its own file system; ``homes`` of releases that are met are left out, and ``problems`` said."""

    def __init__(self, place: str, root: str) -> None:
        self._place = place
        self._root = root
        self._left = _MOST
        self.homes: list[str] = []
        self.problems: list[str] = []

    def files(self) -> Iterator[tuple[str, int]]:
        """Path and size of each that is large enough."""
        device = os.lstat(self._place).st_dev
        waiting = [(self._place, 0)]
        while waiting:
            folder, depth = waiting.pop()
            if os.path.realpath(folder) == self._root:
                continue
            if _is_home(folder):
                self.homes.append(folder)
                continue
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        self._left -= 1
                        if self._left < 0:
                            self.problems.append(f"{self._place} has more than {_MOST} entries, and only so many were looked at")
                            return
                        if entry.is_dir(follow_symlinks=False):
                            if depth < _DEEPEST and entry.stat(follow_symlinks=False).st_dev == device:
                                waiting.append((entry.path, depth + 1))
                        elif entry.is_file(follow_symlinks=False):
                            size = entry.stat(follow_symlinks=False).st_size
                            if size >= _SMALLEST:
                                yield entry.path, size
            except FileNotFoundError:  # it went meanwhile
                continue
            except OSError as error:
                self.problems.append(f"{_text(folder)} can't be read ({error.strerror})")


def _contents(root: str) -> dict[int, dict[str, _Content]]:
    """The files of all complete releases below ``root``, by size and sha256; of the same in several that of the live one."""
    found: dict[int, dict[str, _Content]] = {}
    for home in _homes(root):
        target = os.path.realpath(home.current)
        for release in sorted(home.all(), key=lambda one: str(one.tree) == target):  # the live one last, so that it counts
            for entry in release.files:
                if entry["type"] == "file" and entry["size"] >= _SMALLEST:
                    content = _Content(entry["path"], release.name, release.version, bool(entry["mode"] & stat.S_IXUSR))
                    found.setdefault(entry["size"], {})[entry["sha256"]] = content
    return found


def _homes(root: str) -> Iterator[ReleaseHome]:
    try:
        names = sorted(os.listdir(root))
    except OSError:  # nothing was released here, or it is said elsewhere
        return
    for name in names:
        if NAME.fullmatch(name) and os.path.isdir(os.path.join(root, name)):
            yield ReleaseHome(root, name)


def _is_home(folder: str) -> bool:
    """Whether it has the form of a release's home: at least one release with the record of one."""
    try:
        names = os.listdir(os.path.join(folder, "releases"))
    except OSError:
        return False
    return any(os.path.isfile(os.path.join(folder, "releases", name, "release.json")) for name in names)


def _home(folder: str) -> dict[str, Any]:
    """Name and live version of the release whose home it is, as far as that can be told."""
    path = Path(folder)
    version = ""
    if NAME.fullmatch(path.name):
        try:
            live = ReleaseHome(str(path.parent), path.name).live()
            version = live.version if live else ""
        except Exception:  # whatever it is, it is somebody else's
            version = ""
    return {"path": _text(folder), "release": _text(path.name), "version": version, "since": _since([folder])}


def _since(paths: Iterable[str]) -> list[float]:
    """The moments at which these changed themselves, as their file system notes it; none when all went meanwhile."""
    moments = []
    for path in paths:
        with contextlib.suppress(OSError):
            moments.append(os.lstat(path).st_ctime)
    return first_to_last(moments) if moments else []


def _like(path: str, contents: Optional[dict[str, _Content]]) -> Optional[_Content]:
    """The file of a release that the one at ``path`` is like; ``contents`` are those of its size."""
    opened = open_regular(os.fsencode(path)) if contents else None
    if not contents or opened is None:
        return None
    descriptor, info = opened
    try:
        return contents.get(range_digest(descriptor, 0, info.st_size) or "")
    finally:
        os.close(descriptor)


def _text(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")
