# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather what a release has to get on with, from the CMDB and from what the releases there say of others in the DSL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..cmdb.store import Cmdb
from ..dsl.package import load_package_manifest
from ..dsl.repository import Library
from ..errors import TidegateError
from ..rfc.model import Rfc
from .judge import Compatibility, Deployed, Installed, Needs, Surroundings, judge

DEPENDS_ON = "depends_on"  # the kind of relation, from the CI that needs the other to that one


def compatibility(cmdb: Cmdb, library: Library, rfc: Rfc, manifest: Mapping[str, Any], cis: Iterable[Mapping[str, Any]]) -> Compatibility:
    """Hold the RFC's release, of which ``manifest`` is what it says of itself, against ``cis``, its scope, and what is around them."""
    scope = {str(ci["name"]): ci for ci in cis}
    with cmdb.read() as connection:
        related = [
            (relation["source"], relation["target"])
            for relation in cmdb.relations(connection=connection)
            if relation["kind"] == DEPENDS_ON and (relation["source"] in scope or relation["target"] in scope)
        ]
        outside = {name for pair in related for name in pair} - scope.keys()
        rows = cmdb.installations(sorted(outside), connection)
    installed = {
        name: {release: Installed(str(has["version"]), str(has["digest"])) for release, has in ci["installations"].items()}
        for name, ci in scope.items()
    }
    for row in rows:
        installed.setdefault(str(row["ci"]), {})[str(row["release"])] = Installed(str(row["version"]), str(row["digest"]))
    migrates = "migrate" in manifest.get("ansible", {}).get("steps", ())
    deployed = Deployed(rfc.release, rfc.version, rfc.digest, _needs(manifest), migrates)
    # What the release itself said before matters only where it may meet itself, or leave a tree behind.
    wanted = {
        (release, one.digest)
        for releases in installed.values()
        for release, one in releases.items()
        if one.digest != rfc.digest and (release != rfc.release or related or not deployed.needs.tree)
    }
    return judge(
        deployed, Surroundings(scope, installed, tuple(related), {digest: _read(library, *of) for of in wanted for digest in of[1:]})
    )


def _read(library: Library, release: str, digest: str) -> Needs | Exception:
    try:
        manifest = load_package_manifest(library.repository(release), digest)
    except TidegateError as error:
        return error
    return _needs(manifest.to_config())


def _needs(manifest: Mapping[str, Any]) -> Needs:
    brought = manifest.get("packages", {}).get("contents", ())
    names = frozenset(one["name"] for one in brought)
    return Needs(tuple(manifest.get("requires", ())), tuple(manifest.get("conflicts", ())), names, "payload" in manifest)
