# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The baseline of a release whose effect is outside its tree: which archived version is there before the first one is brought.

Without it nobody could bring back what was there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ..dsl.package import load_package_manifest
from ..dsl.repository import Repository
from ..errors import TidegateError

Release = Mapping[str, str]
"""Version and digest of one."""


@dataclass(frozen=True)
class ArchivedVersion:
    """An archived version of the release: what has to be read where it is there, ``None`` for one that is its tree."""

    version: str
    digest: str
    reads: str | None

    @property
    def release(self) -> Release:
        """Version and digest."""
        return {"version": self.version, "digest": self.digest}


def archived_versions(home: Repository, name: str) -> list[ArchivedVersion]:
    """Every archived version of a release; what can't be read is left out."""
    found = []
    for version in sorted(home.versions(name), reverse=True):
        with contextlib.suppress(TidegateError):
            digest = home.resolve(name, version)
            if digest is not None:
                found.append(ArchivedVersion(version, digest, load_package_manifest(home, digest).reads))
    return found


def find_baseline(
    name: str,
    text: str,
    wanted: str,
    archived: Collection[ArchivedVersion],
    installed: str | None,
    distrust: Callable[[str, str], str],
) -> Release:
    """The baseline: the release to go back to from a host on which none is live, and which says ``text``.

    ``wanted``: the digest of the release that is staged, which is its own baseline where it is there already; ``installed``: the digest of
    the one that is on record. ``distrust``, asked with version and digest, says what there is against another. Raises
    :class:`TidegateError` when it is none, or it is not known which.
    """
    found = [one for one in archived if one.reads == text]
    for digest in (wanted, installed):
        if known := [one for one in found if one.digest == digest]:
            return known[0].release
    against = {one.digest: distrust(one.version, one.digest) for one in found}
    left = [one for one in found if not against[one.digest]]
    if len(left) > 1:
        both = " and ".join(f"{name} {one.version}" for one in left)
        raise TidegateError(f"it says {text}, as with each of {both}, and it is not known which it has; purge the wrong one")
    if not left:
        reasons = f": {'; '.join(against.values())}" if against else f"; archive one that reads {text}, whose hooks bring it there"
        raise TidegateError(f"it says {text}, and there is no archived version of {name} to bring it back to{reasons}")
    return left[0].release
