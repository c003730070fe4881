# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second home for a library: what it lacks is copied there, each byte checked on the way, and nothing there is ever overwritten."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ..activity import noted
from ..errors import ConflictError, IntegrityError, NotFoundError, TidegateError
from .descriptors import Descriptor
from .layout import OciLayout
from .package import Package, load_package, read_tree
from .repository import Library, Repository
from .walk import Part, walk

_BLOCK = 1 << 20
_TOGETHER = 100  # releases that get their tags at once: one that was interrupted is looked through again

Retired = Callable[[tuple[str, str]], Collection[str]]
"""The evidence about a release, by name and version, that was taken out of the library and stays there and here as it is."""
Refuse = Callable[[str, str, str], str]
"""Says of a release's name, version and digest why it may not be copied; nothing when it may."""


@dataclass
class Copied:
    """What a replication did, or would do. ``releases`` are those of which anything was missing, each with how many pieces of evidence, and
    whether it is ``new`` there; ``present`` counts those of which nothing was. ``size`` in bytes.

    ``evidence`` counts manifests that refer to a package; ``problems`` has a sentence for each thing that was not copied, ``lacking`` one
    for each release, and for the evidence about each, that the target has and the source does not.
    """

    releases: list[dict[str, Any]] = field(default_factory=list)
    present: int = 0
    blobs: int = 0
    evidence: int = 0
    size: int = 0
    problems: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)


def choose(library: Library, names: Collection[str] | None, also: Collection[str] = ()) -> dict[tuple[str, str], Descriptor]:
    """The releases of a library, in order: all, or every version of those that are named; :class:`NotFoundError` says which it lacks.

    ``also``: names to look for even if the library does not list them.
    """
    releases = library.releases([*(names or ()), *also])
    strangers = sorted(set(names or ()) - {name for name, _version in releases})
    if strangers:
        raise NotFoundError(f"the DSL has no release {', '.join(strangers)}; correct the names")
    return {key: releases[key] for key in sorted(releases) if names is None or key[0] in names}


def replicate(
    source: Library,
    target: Library | None,
    releases: dict[tuple[str, str], Descriptor],
    refuse: Refuse,
    write: bool,
    retired: Retired = lambda _release: set(),
) -> Copied:
    """Bring ``releases`` of ``source`` to ``target``, or say without ``write`` what that would copy; there may be no target yet then.

    A release's tag is set last, when its package and the evidence about it are there, in a layout together with those of others. What is
    damaged, refused, or archived there as
    another digest is a problem, and the others are copied all the same. After a crash the same call goes on.
    """
    copied = Copied()
    planned: set[tuple[str, str]] = set()
    copying = _Copying(source, target, refuse, write, copied, planned, retired)
    left = noted("copying releases", releases.items(), len(releases))
    for _batch in range(0, len(releases), _TOGETHER):
        try:
            with target.batch() if target and write else nullcontext():
                for release, package in itertools.islice(left, _TOGETHER):
                    try:
                        _replicate_one(copying, release, package)
                    except TidegateError as error:
                        copied.problems.append(f"{' '.join(release)} was not copied: {error}")
        except TidegateError as error:
            copied.problems.append(f"not all that was copied could be named: {error}")
    return copied


@dataclass(frozen=True)
class _Copying:
    """What is being done: ``planned`` is what was copied, or would be, by repository and digest."""

    source: Library
    target: Library | None
    refuse: Refuse
    write: bool
    copied: Copied
    planned: set[tuple[str, str]]
    retired: Retired


def _replicate_one(copying: _Copying, release: tuple[str, str], package: Descriptor) -> None:
    (name, version), copied, write = release, copying.copied, copying.write
    why = copying.refuse(name, version, package.digest)
    if why:
        raise IntegrityError(why)
    here, there = copying.source.repository(name), copying.target.repository(name) if copying.target else None
    contents = load_package(here, package.digest)
    if why := contents.misnamed(name, version):
        raise IntegrityError(why)
    tagged, missing = _missing(here, there, release, package, copied, copying.retired(release))
    for part in missing:
        # In a layout all releases share their blobs.
        key = "" if isinstance(there, OciLayout | None) else name, part.descriptor.digest
        if there and write:
            put_part(here, there, part, contents)
        if key not in copying.planned:
            copied.blobs += 1
            copied.size += part.descriptor.size
            copied.evidence += part.subject is not None
        copying.planned.add(key)
    if there and write:
        there.enter(name) if tagged else there.tag(name, version, package)
    if missing or not tagged:
        pieces = sum(part.subject is not None for part in missing)
        copied.releases.append({"name": name, "version": version, "digest": package.digest, "new": not tagged, "evidence": pieces})
    else:
        copied.present += 1


def put_part(source: Repository, target: Repository, part: Part, package: Package | None = None) -> None:
    """Copy one blob or manifest, checked on the way, the payload of ``package``, and its role, also by its file index."""
    trees = {tar.digest: files for tar, files in package.trees} if package is not None else {}
    if part.descriptor.digest in trees:
        blocks = read_tree(source, part.descriptor, trees[part.descriptor.digest])
        target.put_blob(blocks, part.descriptor.media_type, part.descriptor.digest)
    elif part.manifest is None:
        with source.open_blob(part.descriptor.digest, part.descriptor.size) as stream:
            target.put_blob(_blocks(stream, part.descriptor.size), part.descriptor.media_type, part.descriptor.digest)
    elif part.subject is None:
        target.put_manifest(part.manifest)
    else:
        target.refer(part.subject, part.manifest, part.descriptor.annotations)


def _blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """What a blob of ``size`` bytes has to hold; one byte more, if there is one, makes it another blob."""
    left = size + 1
    while left and (block := stream.read(min(left, _BLOCK))):
        left -= len(block)
        yield block


def _missing(
    here: Repository, there: Repository | None, release: tuple[str, str], package: Descriptor, copied: Copied, retired: Collection[str]
) -> tuple[bool, list[Part]]:
    """Whether the release has its tag there, and which of its parts are not there, in order."""
    tagged = there.resolve(*release) if there else None
    if tagged not in (None, package.digest):
        raise ConflictError(f"it is {package.digest} here and {tagged} there, and tags never move; find out which of them is right")
    found = walk(here, package)
    if package.digest in found.faults:
        raise IntegrityError(found.faults[package.digest])
    parts = found.without(retired)
    copied.problems += [f"evidence about {' '.join(release)} was not copied: {why}" for why in found.faults.values()]
    if there is None:
        return False, parts
    subjects = {part.subject for part in found.parts if part.subject} | ({package.digest} if tagged else set())
    listed = {subject: {entry.digest for entry in there.referrers(subject)} for subject in subjects}
    more = listed.get(package.digest, set()) - {part.descriptor.digest for part in found.parts} - found.faults.keys() - set(retired)
    if more:
        copied.lacking.append(f"{len(more)} pieces of evidence about {' '.join(release)}, such as {min(more)}")
    if isinstance(there, OciLayout):
        return tagged is not None, [part for part in parts if not _has(there, part, listed, tagged is None)]
    missing: list[Part] = []
    some: list[Part] = []
    for part in parts:
        some.append(part)
        if part.manifest is not None:
            # A registry takes a manifest only with the blobs that it names, and keeps them as long as it.
            digest, subject = part.descriptor.digest, part.subject
            there_is = digest in listed[subject] and there.has_referring(subject, digest) if subject else tagged is not None
            missing += [] if there_is else [one for one in some if not _has(there, one, listed, tagged is None)]
            some = []
    return tagged is not None, missing


def _has(home: Repository, part: Part, listed: dict[str, set[str]], new: bool) -> bool:
    """Whether a home has a part. A ``new`` release must not begin with what was damaged there before; an old one is for the scrub."""
    digest = part.descriptor.digest
    if part.manifest is None and not (new and isinstance(home, OciLayout)):
        return home.has_blob(part.descriptor)  # a registry looked at it when it came
    if part.subject and digest not in listed[part.subject]:
        return False
    try:
        home.verify_blob(part.descriptor) if part.manifest is None else home.read_manifest(digest)
    except IntegrityError:
        return False
    return True
