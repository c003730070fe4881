# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The baseline: the release that runs outside the trees before any was brought there from here, so that there is a way back to it.

It is recorded as the live one without being activated: no hook of it runs but the one that reads.
"""

from __future__ import annotations

from typing import Any

from .health import CheckError
from .release_home import HostError, Release, ReleaseHome
from .release_hooks import Order, outside_fault, read_outside


def read_now(home: ReleaseHome, digest: str, order: Order) -> dict[str, Any]:
    """What runs outside the trees, as the staged release ``digest`` reads it; nothing is changed.

    Returns ``state`` ``read`` and ``read`` with the ``text``, and a ``detail`` when a release is live that is read otherwise. Raises
    :class:`HostError` when it can't be read.
    """
    home.fence(order.token)
    try:
        text = read_outside(home, _staged(home, digest), order)
    except CheckError as error:
        raise HostError(order.redactor.text(f"what it runs can't be read: {error}")) from None
    live, detail = home.live(), ""
    if live is not None and text != live.reads:
        what = f"it says {text}, and with {home.name} {live.version}, which is live here, it has to say {live.reads}"
        detail = f"{what}; find out who changed it, and bring it back to that, or back {live.version} out"
    said = {"text": order.redactor.text(text), "digest": ""}
    return {"state": "read", "changed": False, "read": said, "detail": order.redactor.text(detail)}


def take_baseline(home: ReleaseHome, digest: str, order: Order) -> dict[str, Any]:
    """Record the staged release ``digest`` as the live one, if that is what is read and no other release is live.

    Returns ``state`` ``baseline``. Raises :class:`HostError` when it is another one, and nothing is changed then.
    """
    home.fence(order.token)
    release = _staged(home, digest)
    live = home.live()
    if live is not None and live.id != release.id:
        raise HostError(f"{home.name} {live.version} is live here already, so {release.version} is no baseline; run the deployment again")
    fault = outside_fault(home, release, order)
    if fault or not release.acts_outside:
        fault = fault or f"{release.name} {release.version} does not say effect: outside"
        raise HostError(order.redactor.text(f"{fault}; find out what changes it, and run the deployment again"))
    changed = live is None or not home.at_rest(release)
    if changed:
        home.flip(release)
        home.append("active", release.id, **order.entry(baseline=release.reads))
    return {"state": "baseline", "changed": changed, "version": release.version}


def _staged(home: ReleaseHome, digest: str) -> Release:
    release = home.find(digest)
    if release is None:
        raise HostError(f"the release {digest} is not staged here; run the deployment again to stage it")
    return release
