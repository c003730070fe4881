# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is really live on a managed host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional

from . import since
from .access import odd_access, open_folders, sentences
from .release_home import NAME, HostError, Release, ReleaseHome, Seen, changed_files, extra_files

_PATIENCE = 20.0  # seconds to wait for an operation that is under way on the host


def release_facts(root: str, settings: Optional[Mapping[str, Any]] = None, *, running: bool = False) -> list[dict[str, Any]]:
    """One entry for each release's home below ``root``, as the module ``tidegate.release.release_facts`` returns them.

    ``settings``: this host's values, with which a live release whose effect is outside its tree asks what runs there. ``running``: whether
    each live release is asked whether it runs. Raises :class:`HostError` when ``root`` can't be read; a home that can't be read has its
    entry all the same.
    """
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise HostError(f"{root} can't be read ({error.strerror}); name the right directory, or run this with become") from None
    return [_look(root, name, settings, running) for name in names if NAME.fullmatch(name) and os.path.isdir(os.path.join(root, name))]


def _look(root: str, name: str, settings: Optional[Mapping[str, Any]], running: bool) -> dict[str, Any]:
    nothing: dict[str, Any] = {"version": None, "digest": None, "changed": [], "extra": [], "access": []}
    found: dict[str, Any] = {"name": name, **nothing, "staged": [], "others": [], "strangers": [], "packages": []}
    seen: Seen = {}
    try:
        home = ReleaseHome(root, name)
        found["staged"] = sorted(release.version for release in home.all())
        found["strangers"] = home.strangers()
        live = home.live()
        for release in home.all():
            state = _state(release, seen)
            if live is not None and live.id == release.id:
                found.update(state)
                if ways := open_folders(home, release):
                    found["access"] = [*state["access"], *sentences(ways)]
                    opened = since.of_files([path for paths in ways.values() for path in paths])
                    found["since"] = {**state["since"], "access": since.first_to_last([*state["since"].get("access", []), *opened])}
                found["logged"] = home.history().switched
                if release.has_packages:
                    from .system_packages import differences, moments  # noqa: PLC0415 - few releases bring packages

                    odd = differences(release)
                    found["packages"] = [one.sentence for one in odd]
                    if at := moments(odd) if odd else []:
                        found["since"]["packages"] = at
                if release.acts_outside:
                    found["outside"] = _look_outside(home, release, settings)
                if running:
                    from .running import look_running  # noqa: PLC0415 - what only looks at files needs none of it

                    found["running"] = look_running(home, release, settings, not state["changed"])
            elif state["changed"] or state["extra"] or state["access"]:
                found["others"].append(state)
        log = [] if found.get("logged", True) else ["log.jsonl"]
        found["since"] = {**found.get("since", {}), **since.of_home(home, {"strangers": found["strangers"], "log": log})}
    except (HostError, OSError) as error:
        found["error"] = str(error)
    return found


def _state(release: Release, seen: Seen) -> dict[str, Any]:
    """What of the files of a release is not as it was released."""
    compiled: list[str] = []
    changed, extra = changed_files(release, seen), extra_files(release, compiled)
    if compiled:
        from .bytecode import foreign_bytecode  # noqa: PLC0415 - few releases have any

        foreign = foreign_bytecode(release, compiled)
        extra = sorted(extra + [path.encode(errors="surrogateescape").decode(errors="backslashreplace") for path in foreign])
    odd = odd_access(release)
    state = {"version": release.version, "digest": release.digest, "changed": changed, "extra": extra, "access": sentences(odd)}
    owned = [path for paths in odd.values() for path in paths]
    return {**state, "since": since.of_tree(release, {"changed": changed, "extra": extra, "access": owned})}


def _look_outside(home: ReleaseHome, live: Release, settings: Optional[Mapping[str, Any]]) -> dict[str, str]:
    """What the hook ``read`` of the live release prints; nothing is changed.

    ``text``: that; ``version``: of the release on this host that is read so, empty for none; ``wanted``: what the live one has to be read
    as; ``problem``: why it could not be read.
    """
    answer = {"text": "", "version": "", "wanted": live.reads, "problem": ""}
    if settings is None:
        return {**answer, "problem": "nobody said which settings this host has"}
    from .health import CheckError  # noqa: PLC0415 - few releases act outside their trees
    from .release_hooks import Order, read_outside  # noqa: PLC0415 - as above

    order = Order("audit", 0, settings)
    try:
        with home.locked(_PATIENCE):
            text = read_outside(home, live, order)
    except (CheckError, HostError, OSError) as error:
        return {**answer, "problem": order.redactor.text(str(error))}
    known = {other.reads: other.version for other in home.all() if other.acts_outside and other.version != live.version}
    return {**answer, "text": order.redactor.text(text), "version": {**known, live.reads: live.version}.get(text, "")}
