# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A layout that lost its index gets a new one: from a replica, and from what its own manifests say of themselves."""

from __future__ import annotations

from .descriptors import PACKAGE, TITLE, VERSION
from .layout import OciLayout
from .replica import choose, replicate
from .repository import Library


def salvage(path: str, replica: Library) -> tuple[OciLayout, list[str]] | None:
    """Rebuild the index of the layout at ``path``; ``None`` when that is not what is wrong with it.

    Releases are those of the replica: what a package says of itself may be left from an archiving that was never finished. Evidence
    that is here and names its package is listed again. Also returned is a sentence for each thing that could not be brought back.
    """
    layout = OciLayout.renew(path)
    if layout is None:
        return None
    problems = replicate(replica, layout, choose(replica, None), lambda _name, _version, _digest: "", write=True).problems
    tagged = {descriptor.digest for descriptor in layout.releases().values()}
    for digest, content, document in list(layout.manifests()):
        subject = document.get("subject")
        annotations = document.get("annotations")
        if isinstance(subject, dict) and isinstance(subject.get("digest"), str) and document.get("artifactType"):
            with layout.writing():
                layout.refer(subject["digest"], content)
        elif document.get("artifactType") == PACKAGE and digest not in tagged and isinstance(annotations, dict):
            problems.append(
                f"{annotations.get(TITLE)!a} {annotations.get(VERSION)!a} is in the blobs as {digest}, and the replica does not have it; "
                "if it was archived here, archive it again"
            )
    return layout, problems
