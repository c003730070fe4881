# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is really live on a managed host."""

from __future__ import annotations

import os
from typing import Any

from .release_home import NAME, HostError, ReleaseHome, Seen, changed_files, extra_files


def release_facts(root: str) -> list[dict[str, Any]]:
    """One entry for each release's home below ``root``, as the module ``tidegate.release.release_facts`` returns them.

    Raises :class:`HostError` when ``root`` can't be read; a home that can't be read has its entry all the same.
    """
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise HostError(f"{root} can't be read ({error.strerror}); name the right directory, or run this with become") from None
    return [_look(root, name) for name in names if NAME.fullmatch(name) and os.path.isdir(os.path.join(root, name))]


def _look(root: str, name: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {"version": None, "digest": None, "changed": [], "extra": []}
    found: dict[str, Any] = {"name": name, **nothing, "staged": [], "others": [], "strangers": [], "packages": []}
    seen: Seen = {}
    try:
        home = ReleaseHome(root, name)
        found["staged"] = sorted(release.version for release in home.all())
        found["strangers"] = home.strangers()
        live = home.live()
        for release in home.all():
            changed, extra = changed_files(release, seen), extra_files(release)
            state = {"version": release.version, "digest": release.digest, "changed": changed, "extra": extra}
            if live is not None and live.id == release.id:
                found.update(state)
                if release.has_packages:
                    from .system_packages import differences  # noqa: PLC0415 - few releases bring packages

                    found["packages"] = differences(release)
            elif changed or extra:
                found["others"].append(state)
    except (HostError, OSError) as error:
        found["error"] = str(error)
    return found
