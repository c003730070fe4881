# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CIs run now that no archived version brings back, as far as that is known before anybody asks them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ..cmdb.store import Cmdb
from ..dhs.assets import models_of
from ..dsl.firmware import FirmwareImage
from ..dsl.manifest import Manifest
from ..dsl.package import load_package_manifest
from ..dsl.repository import Library
from ..errors import TidegateError
from ..firmware.device import text
from ..rfc.model import Rfc
from ..rollout.outside_journal import READS

Machines = Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]]
"""CIs by the model of the machine that each is, and by what that is recorded to run of the component of each image of a release; an empty
text is not known. Thousands of machines have few models and versions."""


def machines_of(cmdb: Cmdb, images: Sequence[FirmwareImage], cis: Sequence[Mapping[str, Any]]) -> Machines:
    """The CIs that a release of firmware with these images goes to."""
    with cmdb.read() as connection:
        models = models_of(connection)
    components, found = [image.component for image in images], dict[tuple[Any, ...], list[Mapping[str, Any]]]()
    for ci in cis:
        attributes = ci["attributes"]
        recorded = attributes.get("firmware")
        has = recorded if isinstance(recorded, dict) else {}
        model = models.get(ci["name"]) or attributes.get("model")
        said = (model, *[has.get(component) for component in components])
        key = tuple([one if isinstance(one, str) else "" for one in said])
        found.setdefault(key, []).append(ci)
    return {tuple(map(text, key)): alike for key, alike in found.items()}


def unarchived(
    library: Library, machines: Callable[[], Machines], rfc: Rfc, config: Mapping[str, Any], cis: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """A sentence for each CI, or for all, that could not be brought back for want of a package; ``config`` is that of the RFC's."""
    archived = list(_archived(library, rfc.release))
    if "firmware" in config:
        return tuple(_firmware(machines(), rfc.release, [FirmwareImage.of(one) for one in config["firmware"]], archived))
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


def _firmware(machines: Machines, name: str, images: Sequence[FirmwareImage], archived: Collection[Manifest]) -> Iterator[str]:
    there = {(model, one.component, one.version) for manifest in archived for one in manifest.firmware for model in one.models}
    for (model, *versions), cis in machines.items():
        for image, version in zip(images, versions, strict=True):
            if model in image.models and version in image.back_to and (model, image.component, version) not in there:
                lacks = f"has {image.component} {version}, and no archived version of {name} has that for the {model}"
                yield from (f"{ci['name']} {lacks}" for ci in cis)
