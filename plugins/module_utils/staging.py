# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging: build a release's tree beside the running one, out of what the host has and what it lacks.

Nothing here has an effect on what runs. The host trusts one thing, the package digest: manifest, config and file
index are checked against it, and every file against the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

from .account import check_account
from .build import Fetch, Pack, build
from .package_documents import read_package
from .release_files import changed_entries
from .release_home import HostError, Release, ReleaseHome
from .repair import collect, install

if TYPE_CHECKING:
    from .mirror import Mirror


def stage(
    home: ReleaseHome,
    digest: str,
    documents: tuple[bytes, bytes, bytes],
    pack: Pack,
    keep: int,
    protect: Sequence[str],
    token: int,
    deployment: str,
    mirror: Optional[Mirror] = None,
    share: bool = False,
) -> dict[str, Any]:
    """Bring the release ``digest`` completely on this host.

    ``documents`` are manifest, config and file index. ``pack`` holds pieces that the host lacks; without one they are fetched from
    ``mirror``, if there is one. ``share``: contents that the host has are linked, not copied. Returns ``state`` ``staged``, or
    ``lacking`` with the sha256s in ``need`` when the host still lacks some; and what is live now.

    A release that is here already but was changed is put right. If it is live, what that takes is brought here, and its activation does it.
    """
    package = read_package(digest, *documents)
    if package.config["name"] != home.name:
        raise HostError(f"the package {digest} is {package.config['name']}, not {home.name}")
    home.expect(package.texts, package.config, package.files)
    version = package.config["version"]
    release_id = home.id_of(version, digest)
    home.fence(token)
    check_account(package.config, package.files, home.releases)
    if home.is_current(digest) and home.get(release_id) is None and home.has_tree(release_id):
        home.write_record(home.releases / release_id, package.texts)
    live = home.live()
    result: dict[str, Any] = {
        "state": "staged",
        "changed": False,
        "id": release_id,
        "live": {"version": live.version, "digest": live.digest} if live else None,
    }
    existing = home.get(release_id)
    wrong = changed_entries(existing) if existing is not None else []
    if existing is not None and not wrong:
        _refuse_packages(home, existing, live)
        return result
    result["removed"] = home.sweep(keep, protect, release_id)
    fetch: Fetch = (lambda assembly: mirror.fetch(package.payload, assembly)) if mirror else None
    work = home.staging / release_id
    if existing is not None:
        built = collect(home, existing, wrong, pack, fetch)
    else:
        built = build(home, package.files, work, pack, fetch, share, record=package.texts)
    need = built.pop("need")
    result.update(built)
    if need:
        result.update(state="lacking", need=need)
        return result
    if existing is None:
        home.put(work, release_id)
    elif live is None or live.id != release_id:
        install(home, existing, wrong)
    _refuse_packages(home, home.get(release_id), live)
    home.append("staged", release_id, version=version, digest=digest, deployment=deployment, token=token)
    result["changed"] = True
    return result


def _refuse_packages(home: ReleaseHome, target: Optional[Release], live: Optional[Release]) -> None:
    """Raise :class:`HostError` when the packages that ``target`` brings can't be installed here: better now than in its wave.

    In the middle of a switch there is nothing that could be held against it.
    """
    if target is None or not target.has_packages or (live is not None and live.id == target.id) or not home.at_rest(live):
        return
    from .system_packages import refuse  # noqa: PLC0415 - few releases bring packages, and every host imports this

    refuse(home, target, live, untouched=True)
