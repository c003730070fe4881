# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CIs run now that no archived version brings back, as far as that is known before anybody asks them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..cmdb.store import Cmdb
from ..dhs.assets import machines
from ..dsl.firmware import FirmwareImage
from ..dsl.manifest import Manifest
from ..dsl.package import load_package_manifest
from ..dsl.repository import Library
from ..errors import TidegateError
from ..rfc.model import Rfc
from ..rollout.outside_journal import READS


def unarchived(library: Library, cmdb: Cmdb, rfc: Rfc, config: Mapping[str, Any], cis: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """A sentence for each CI, or for all, that could not be brought back for want of a package; ``config`` is that of the RFC's."""
    archived = list(_archived(library, rfc.release))
    if "firmware" in config:
        return tuple(_firmware(cmdb, rfc.release, [FirmwareImage.of(one) for one in config["firmware"]], archived, cis))
    if any(manifest.reads is not None for manifest in archived if manifest.version != rfc.version):
        return ()  # whether it is the one that is there is asked when it is staged
    first = [ci for ci in cis if rfc.release not in ci["installations"] and _read(ci["attributes"], rfc.release) != config["reads"]]
    if not first:
        return ()
    more = f" and {len(first) - 1} more" if first[1:] else ""
    return (f"it is the first {rfc.release} on {first[0]['name']}{more}, and no other version with effect: outside is archived",)


def _archived(library: Library, name: str) -> Iterator[Manifest]:
    home = library.repository(name)
    for version in sorted(home.versions(name)):
        with contextlib.suppress(TidegateError):  # what can't be read brings nothing back
            yield load_package_manifest(home, str(home.resolve(name, version)))


def _read(attributes: Mapping[str, Any], name: str) -> object:
    read = attributes.get(READS)
    return read.get(name) if isinstance(read, Mapping) else None


def _firmware(
    cmdb: Cmdb, name: str, images: Sequence[FirmwareImage], archived: Collection[Manifest], cis: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    there = {(model, one.component, one.version) for manifest in archived for one in manifest.firmware for model in one.models}
    with cmdb.read() as connection:
        units = machines(connection, [str(ci["name"]) for ci in cis])
    for ci in cis:
        recorded = ci["attributes"].get("firmware")
        model = units[ci["name"]].model if ci["name"] in units else ci["attributes"].get("model")
        for image in images if isinstance(recorded, Mapping) else ():
            version = recorded.get(image.component)
            if model in image.models and version in image.back_to and (model, image.component, version) not in there:
                yield f"{ci['name']} has {image.component} {version}, and no archived version of {name} has that for the {model}"
