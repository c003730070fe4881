# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in the library: which archived release a device has, and the file to give it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ..dsl.firmware import FirmwareImage, images_for
from ..dsl.package import load_package, load_package_manifest
from ..dsl.repository import Repository
from ..errors import IntegrityError, TidegateError
from ..files import locked
from .device import DeviceError

_BLOCK = 1 << 20


def archived(home: Repository, name: str, model: str) -> Iterator[tuple[str, str, tuple[FirmwareImage, ...]]]:
    """Each archived version of a release with its digest and its images for a model; what can't be read is left out."""
    for version in sorted(home.versions(name), reverse=True):
        with contextlib.suppress(TidegateError):
            digest = home.resolve(name, version)
            if digest is not None:
                yield version, digest, images_for(model, load_package_manifest(home, digest).firmware)


def release_that_runs(
    home: Repository,
    name: str,
    model: str,
    read: Mapping[str, str],
    installed: str | None = None,
    distrust: Callable[[str, str], str] = lambda _version, _digest: "",
) -> dict[str, str] | None:
    """Version and digest of the archived release of which a device has all that was ``read``, by component; ``None`` for none.

    Of several it is the one that is on record as ``installed`` there, the digest of a package. Else it is one against which ``distrust``,
    asked with version and digest, has nothing to say. Raises :class:`DeviceError` when it has against all of them, or when those that are
    left are not of the same bytes, for a device says a version and not what it has.
    """
    found = [
        (version, digest, [image for image in images if image.component in read])
        for version, digest, images in archived(home, name, model)
        if read and read.items() <= {image.component: image.version for image in images}.items()
    ]
    on_record = [one for one in found if one[1] == installed]
    against = {} if on_record else {digest: distrust(version, digest) for version, digest, _images in found}
    left = on_record or [one for one in found if not against[one[1]]]
    if found and not left:
        raise DeviceError(f"nobody could bring it back: {'; '.join(against.values())}")
    if len(left) > 1:
        by_bytes: dict[frozenset[tuple[str, str | None]], str] = {}
        for version, digest, images in left:
            by_bytes.setdefault(_bytes_of(home, digest, images), version)
        if len(by_bytes) > 1:
            both = " and ".join(f"{name} {version}" for version in by_bytes.values())
            has = ", ".join(f"{component} {version}" for component, version in read.items())
            raise DeviceError(
                f"{both} have {has} for the {model} as different images, and it is not known which it has; purge the wrong one"
            )
    return {"version": left[0][0], "digest": left[0][1]} if left else None


def _bytes_of(home: Repository, digest: str, images: Iterable[FirmwareImage]) -> frozenset[tuple[str, str | None]]:
    """Each component's image by its content."""
    content = {entry.path: entry.sha256 for entry in load_package(home, digest).files}
    return frozenset((image.component, content.get(image.image)) for image in images)


def image_of(home: Repository, digest: str, model: str, component: str, version: str) -> FirmwareImage | None:
    """The image of a package with which a component has a version; ``None`` when it has none, or is not archived any more."""
    with contextlib.suppress(TidegateError):
        images = images_for(model, load_package_manifest(home, digest).firmware)
        return next((image for image in images if (image.component, image.version) == (component, version)), None)
    return None


def image_file(home: Repository, digest: str, image: FirmwareImage, folder: Path) -> Path:
    """The file with an image of the package ``digest``, made in ``folder``, which is the run's own, by the first who asks.

    Its name is what the package calls it, for some devices look at that. Raises :class:`IntegrityError` when it is not as archived.
    """
    package = load_package(home, digest)
    entry = next((one for one in package.files if one.path == image.image), None)
    if entry is None or entry.sha256 is None or entry.size is None:
        raise IntegrityError(f"the package {digest} has no image {image.image}; verify the DSL")
    path = folder / entry.sha256 / Path(image.image).name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not beside the image, which may be called anything.
        with locked(folder / f"{entry.sha256}.lock"):
            if not path.exists():
                unfinished, seen = folder / f"{entry.sha256}.unfinished", hashlib.sha256()
                with unfinished.open("wb") as target, home.open_blob(package.payload.digest, package.payload.size) as source:
                    source.seek(entry.offset or 0)
                    left = entry.size
                    while left and (block := source.read(min(left, _BLOCK))):
                        left -= len(block)
                        seen.update(block)
                        target.write(block)
                if seen.hexdigest() != entry.sha256:
                    raise IntegrityError(f"the payload of {digest} has another {image.image} than its file index says; verify the DSL")
                unfinished.rename(path)
    except OSError as error:
        raise TidegateError(f"can't write in {folder} ({error.strerror or error}); make room and run this again") from error
    return path
