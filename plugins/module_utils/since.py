# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Since when what an audit finds on a host has been so, as its file system says it.

It is the time at which an entry itself changed (``st_ctime``): whoever copies or unpacks a file, or gives it another date, can set its
modification time to anything, but not this one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .release_home import Release, ReleaseHome

_MOST = 500  # moments between the first and the last one


def of_tree(release: Release, found: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    """By key of ``found``, each with paths in the tree of ``release``: the moments at which these changed, see :func:`first_to_last`.

    A path that is not there has that of the directory that it was in. Keys without a moment are left out.
    """
    return _moments(os.fsencode(release.tree), found)


def of_files(paths: Sequence[str]) -> list[float]:
    """The same of files anywhere on the host."""
    return _moments(b"/", {"": paths}).get("", [])


def of_home(home: ReleaseHome, found: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    """The same of paths in the home of a release, and as ``live`` the moment at which that became live which is, or none any more."""
    return _moments(os.fsencode(home.path), {**found, "live": [home.current.name]})


def _moments(root: bytes, found: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    moments = {key: list(_changes(root, paths)) for key, paths in found.items()}
    return {key: first_to_last(of_key) for key, of_key in moments.items() if of_key}


def first_to_last(moments: Iterable[float]) -> list[float]:
    """The first one, the last one, which may be the same, and between them one of each second, in order; so many at most."""
    ordered = sorted(moments)
    seconds = {int(moment): moment for moment in ordered}
    between = [moment for second, moment in seconds.items() if int(ordered[0]) < second < int(ordered[-1])]
    return [ordered[0], *between[:_MOST], ordered[-1]]


def _changes(root: bytes, paths: Iterable[str]) -> Any:
    for path in paths:
        parts = [part for part in path.encode(errors="surrogateescape").split(b"/") if part]
        while True:
            try:
                yield os.lstat(os.path.join(root, *parts)).st_ctime
            except OSError:
                if parts:
                    parts.pop()
                    continue
            break
