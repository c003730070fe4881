# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firmware images that a release consists of, and for which devices they are. Pure.

Versions are texts, as the devices say them: they are the same or not, and nothing orders them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .payload import FileEntry

KIND = "firmware"
"""What the manifest of such a release says that it is."""


@dataclass(frozen=True)
class Minutes:
    """How long parts of an update take at most: ``transfer`` until the device has written the image, ``silence`` in which the device says
    nothing while it begins anew, ``restart`` until it and its host are there again."""

    transfer: float = 20
    silence: float = 15
    restart: float = 20

    @property
    def in_all(self) -> float:
        """How long all that is waited for takes at most, one after the other, with what a run before has left."""
        return 3 * self.transfer + 8 * self.silence + 5 * self.restart


@dataclass(frozen=True)
class FirmwareImage:
    """One image.

    ``component``: what the device calls the part that it is for; ``models``: of what devices, as they say it. ``image``: the file in the
    payload. ``version``: what the device says when it has it, ``from_versions``: what it has to say before, and ``back_to``: to which
    versions it can go down from this one, none for a point of no return. ``takes_effect``: ``immediate``, ``host_reset``, ``bmc_reset``,
    ``power_cycle`` or ``activation``.
    """

    component: str
    models: tuple[str, ...]
    image: str
    version: str
    from_versions: tuple[str, ...]
    back_to: tuple[str, ...]
    takes_effect: str
    minutes: Minutes = field(default_factory=Minutes)

    def to_config(self) -> dict[str, Any]:
        """All of it in the shape of the schema."""
        return {
            **{key: getattr(self, key) for key in ("component", "image", "version", "takes_effect")},
            "models": list(self.models),
            "from": list(self.from_versions),
            "back_to": list(self.back_to),
            "minutes": asdict(self.minutes),
        }

    def version_above(self, model: str, archived: Iterable[FirmwareImage]) -> str:
        """The version among those that it is for to which archived images lead from its own; empty when none does."""
        ways = [one for one in archived if one.component == self.component and model in one.models]
        reached, waiting = {self.version}, [self.version]
        while waiting:
            here = waiting.pop()
            new = {way.version for way in ways if here in way.from_versions} - reached
            reached |= new
            waiting += new
        return next((version for version in self.from_versions if version in reached), "")

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> FirmwareImage:
        """Read it from the shape of the schema."""
        return cls(
            **{key: data[key] for key in ("component", "image", "version", "takes_effect")},
            models=tuple(data["models"]),
            from_versions=tuple(data["from"]),
            back_to=tuple(data["back_to"]),
            minutes=Minutes(**data.get("minutes", {})),
        )


def images_for(model: str, images: Iterable[FirmwareImage]) -> tuple[FirmwareImage, ...]:
    """Those of a release's images that are for devices of a model, in the order in which they are installed."""
    return tuple(image for image in images if model in image.models)


def is_without_way_back(image: FirmwareImage, version: object) -> bool:
    """Whether a device that has a ``version`` can't be brought back to that once it has the image; of what is not known all are meant."""
    if isinstance(version, str) and version:
        return version != image.version and version not in image.back_to
    return not set(image.from_versions) <= set(image.back_to)


def contradictions(images: Iterable[FirmwareImage], numbers: Iterable[int]) -> Iterator[tuple[int, str, str, str]]:
    """What of images can't be so: the one of ``numbers`` by which messages call the image, key, sentence and remedy."""
    taken: dict[tuple[str, str], int] = {}
    for number, image in zip(numbers, images, strict=True):
        for model in image.models:
            other = taken.setdefault((image.component, model), number)
            if other != number:
                what = f"{image.component} of the {model} has an image already, firmware.{other}"
                yield number, "models", what, "have one image for each component of each model; an older one is another release"
        for key, versions in (("from", image.from_versions), ("back_to", image.back_to)):
            if image.version in versions:
                what = f"firmware.{number}.{key} has {image.version}, which is the version of the image itself"
                yield number, key, what, "list the versions before it"


def ways_down(images: Iterable[FirmwareImage], archived: Collection[FirmwareImage]) -> Iterator[tuple[str, str, str]]:
    """Which images would take a device down: component, sentence and remedy. ``archived`` are those of the other versions.

    Nothing orders versions, so a way is down when archived images lead back from where it ends to where it begins. Only a back-out goes
    down, and knows from where by ``back_to``.
    """
    for image in images:
        for model in image.models:
            above = image.version_above(model, archived)
            if above:
                own = f"{image.component} {image.version} for the {model} from {above}"
                what = f"{own} is a way down: archived images lead from it to {above}"
                remedy = f"leave {above} out of from, for only a back-out goes down, by back_to of {above}; or retire what leads there"
                yield image.component, what, remedy


def faults_in_payload(images: Collection[FirmwareImage], entries: Collection[FileEntry]) -> Iterator[tuple[str, str, str]]:
    """What is wrong between the images of a release and its payload: path in the payload, sentence and remedy."""
    by_path = {entry.path: entry for entry in entries}
    for path in dict.fromkeys(image.image for image in images):
        entry = by_path.get(path)
        if entry is None or entry.type != "file":
            what = "is missing" if entry is None else f"is a {entry.type}, and an image is a file"
            yield path, f"the image {what}", "put it into the payload, or correct its name under firmware"
    named = {image.image for image in images}
    for entry in entries:
        if entry.type != "directory" and entry.path not in named:
            yield entry.path, "it is the image of nothing under firmware", "name it there, or leave it out of the payload"
