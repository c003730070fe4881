# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at every byte of a library, name what is damaged or missing and whom it touches, and heal it from a replica."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from ..activity import note, noted
from ..errors import IntegrityError, TidegateError
from .descriptors import Descriptor, referrers_tag
from .layout import OciLayout, Untagged
from .package import load_package, verify_payload
from .replica import put_part
from .repository import Library, Repository
from .walk import Part, walk

YOUNG = 3600.0
"""Seconds: what nothing names and came since may be what another tool is about to name."""
_Key = tuple[str, str]
"""In a layout nothing and a digest; in a registry, where each release has blobs of its own, the release's name and a digest."""


@dataclass(frozen=True)
class Damage:
    """Something that is not as it should be: ``what`` says how, ``releases`` whom it touches, each by name and version."""

    digest: str
    what: str
    releases: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        whom = ", ".join(" ".join(release) for release in self.releases)
        return f"{self.digest} is {self.what}, {f'which touches {whom}' if whom else 'which touches no release that can be read'}"


@dataclass
class Scrub:
    """What was looked at and found. ``healed``: what got its right bytes from a replica, or without ``write`` would get them.

    ``blobs`` and their ``size`` in bytes count what was checked; ``unnamed`` and ``unnamed_size`` those of them that no release needs, of
    which ``untagged`` are packages. ``collected``, of ``collected_size``, are what was unnamed and is gone now, or without ``write`` would
    be. ``releases`` that were found, by name and version, each with how many manifests refer to it; ``misnamed``: a sentence for each that
    is the package of another. ``problems``: a sentence for what could not be collected.
    """

    blobs: int = 0
    size: int = 0
    unnamed: int = 0
    unnamed_size: int = 0
    collected: int = 0
    collected_size: int = 0
    untagged: list[Untagged] = field(default_factory=list)
    releases: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    misnamed: dict[tuple[str, str], str] = field(default_factory=dict)
    damaged: list[Damage] = field(default_factory=list)
    healed: list[Damage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class _Mended:
    """A home whose damaged manifests and lists are read from a replica, so that what they name is looked at all the same."""

    home: Repository
    replica: Repository | None
    retired: Collection[str]
    lists: dict[str, list[Descriptor]] = field(default_factory=dict)
    """What belongs into those lists of referrers that are damaged, by subject."""

    def read_manifest(self, digest: str) -> bytes:
        try:
            return self.home.read_manifest(digest)
        except IntegrityError:
            if self.replica is None:
                raise
            return self.replica.read_manifest(digest)

    def referrers(self, subject: str) -> list[Descriptor]:
        try:
            return self.home.referrers(subject)
        except IntegrityError:
            known = [*self.home.unlisted(subject), *(self.replica.referrers(subject) if self.replica else ())]
            self.lists[subject] = list({entry.digest: entry for entry in known if entry.digest not in self.retired}.values())
            return self.lists[subject]


@dataclass
class _Needed:
    """What the releases need: every part with its home, every damaged list with its subject, and whose they are."""

    parts: dict[_Key, tuple[_Mended, Part]] = field(default_factory=dict)
    lists: dict[_Key, tuple[_Mended, str]] = field(default_factory=dict)
    unusable: dict[_Key, str] = field(default_factory=dict)
    releases: dict[_Key, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))


def scrub(
    library: Library,
    replica: Library | None,
    write: bool,
    workers: int = os.cpu_count() or 1,
    also: Collection[str] = (),
    retired: Callable[[], Collection[str]] = tuple,
    clock: Callable[[], float] = time.time,
) -> Scrub:
    """Check every package, all that refers to it, and in a layout also the blobs that nothing names; and that payloads are the trees of
    their file indexes.

    ``also``: names of releases that may be there though the library does not list them. ``retired`` says which evidence was taken out of
    it with a reason, so that what is left of that is not listed again; it is asked again in the end, for all this takes long.

    With ``replica`` what is damaged gets its right bytes from there, unless ``write`` is false. Nothing else is changed, but that a
    layout then loses what is damaged and needed by no release, and with or without ``replica`` what nothing names. What is younger than
    :data:`YOUNG` by the ``clock`` stays, since other tools write here without a lock.
    """
    done, before = Scrub(), clock() - YOUNG
    needed = _find(library, replica, also, retired(), done)
    with ThreadPoolExecutor(workers) as pool:
        states = _look_through(library, needed, done, pool) if isinstance(library, OciLayout) else _look_at(needed, done, pool)
        needed.unusable |= _other_trees(library, {whose for key in states for whose in needed.releases.get(key, ())}, done, pool)
    if write and isinstance(library, OciLayout):
        library.sweep()
    states = dict.fromkeys(needed.lists, "a damaged list of evidence") | states
    states |= {key: f"of no use ({why})" for key, why in needed.unusable.items() if key not in states}
    still = library.releases(also).keys()  # somebody may have purged meanwhile
    wrong = [key for key in states if not needed.releases.get(key) or needed.releases[key] & still]
    # Lists before what goes into them, blobs before manifests as they were found, and last what no release needs.
    for key in sorted(wrong, key=lambda key: (key not in needed.lists, key not in needed.parts, key not in needed.releases)):
        damage = Damage(key[1], states[key], tuple(sorted(needed.releases.get(key, ()))))
        stray = key not in needed.releases
        try:
            # As long as something is damaged nobody knows what else is needed.
            cured = not (stray and done.damaged) and _cure(library, replica, needed, key, write)
        except TidegateError as error:
            damage, cured = replace(damage, what=f"{damage.what} and can't be healed ({error})"), False
        (done.healed if cured else done.damaged).append(damage)
    if isinstance(library, OciLayout) and not done.damaged and (write or not done.healed):
        _collect(library, needed, before, retired, done, write)
    return done


def _collect(layout: OciLayout, needed: _Needed, before: float, retired: Callable[[], Collection[str]], done: Scrub, write: bool) -> None:
    """Have what nothing names collected, and all be listed; a sentence in ``done`` says why not: somebody is writing, this user may not, or
    something is damaged."""
    try:
        strays = layout.strays(before, retired())
        if write and (strays.unneeded or strays.referring):
            strays = layout.collect(before, retired())
        done.collected, done.collected_size = len(strays.unneeded), sum(strays.unneeded.values())
        for subject, entry in strays.referring:
            whose = tuple(sorted(needed.releases.get(("", subject), ())))
            done.healed.append(Damage(entry.digest, "in no list of evidence", whose))
        if write:
            done.unnamed, done.unnamed_size = done.unnamed - done.collected, done.unnamed_size - done.collected_size
            layout.publish()
    except TidegateError as error:
        done.problems.append(f"what nothing names was not collected, or not all was listed for other tools: {error}")


def _cure(library: Library, replica: Library | None, needed: _Needed, key: _Key, write: bool) -> bool:
    """Put right what is wrong, or without ``write`` see whether that could be done; false when nobody has what it takes."""
    if replica is None or key in needed.unusable:
        return False
    if key in needed.lists:
        mended, subject = needed.lists[key]
        if write:
            with mended.home.writing():
                mended.home.relist(subject, mended.lists[subject])
        return True
    if key in needed.parts:
        mended, part = needed.parts[key]
        if mended.replica is None:
            return False
        if write:
            with mended.home.writing():
                put_part(mended.replica, mended.home, part)
        _check(mended.home if write else mended.replica, part)
        return True
    if not isinstance(library, OciLayout):
        return False
    if write:
        library.discard_damaged(key[1])  # it has a blob's name and other bytes, and nothing needs it
    return True


def _check(home: Repository, part: Part) -> None:
    if part.manifest is None:
        home.verify_blob(part.descriptor)
    else:
        home.read_manifest(part.descriptor.digest)


def _find(library: Library, replica: Library | None, also: Collection[str], retired: Collection[str], done: Scrub) -> _Needed:
    needed = _Needed()
    for (name, version), package in library.releases(also).items():
        note(f"finding out what belongs to {name} {version}")
        scope = "" if isinstance(library, OciLayout) else name
        mended = _Mended(library.repository(name), _repository(replica, name), retired)
        found = walk(mended, package)
        done.releases[name, version] = package.digest, sum(part.subject == package.digest for part in found.parts)
        for part in found.parts:
            key = scope, part.descriptor.digest
            known = needed.parts.setdefault(key, (mended, part))[1].descriptor.size
            if known != part.descriptor.size:
                needed.unusable[key] = f"manifests say that it has {known} bytes and {part.descriptor.size} bytes"
        needed.unusable |= {(scope, digest): why for digest, why in found.faults.items()}
        needed.lists |= {(scope, referrers_tag(subject)): (mended, subject) for subject in mended.lists}
        for digest in (*(part.descriptor.digest for part in found.parts), *found.faults, *map(referrers_tag, mended.lists)):
            needed.releases[scope, digest].add((name, version))
    return needed


def _look_through(layout: OciLayout, needed: _Needed, done: Scrub, pool: Executor) -> dict[_Key, str]:
    """Check every file of a layout, whether anything names it or not; of each that is wrong, how."""
    names = list(layout.files())
    files = dict(noted("reading blobs", pool.map(layout.check_file, names), len(names)))
    states: dict[_Key, str] = {("", digest): "damaged" for digest, (_size, intact) in files.items() if not intact}
    for key, (_mended, part) in needed.parts.items():
        if key[1] not in files:
            states[key] = "missing"
        elif key not in states and files[key[1]][0] != part.descriptor.size:
            states[key] = f"of {files[key[1]][0]} bytes, not of {part.descriptor.size} as its manifest says"
    lists = layout.listings()
    named = {key[1] for key in needed.releases} | lists
    unnamed = {digest: size for digest, (size, _intact) in files.items() if digest not in named}
    done.blobs, done.size = len(files), sum(size for size, _intact in files.values())
    done.unnamed, done.unnamed_size = len(unnamed), sum(unnamed.values())
    done.untagged = list(layout.untagged(digest for digest in unnamed if digest.startswith("sha256:")))
    # A list that is damaged is told as that.
    return {key: what for key, what in states.items() if key[1] not in lists}


def _look_at(needed: _Needed, done: Scrub, pool: Executor) -> dict[_Key, str]:
    """Check every part in a registry; of each that is wrong, how."""

    def state(entry: tuple[_Mended, Part]) -> str:
        mended, part = entry
        try:
            _check(mended.home, part)
        except IntegrityError:
            return "damaged" if part.manifest is None and mended.home.has_blob(part.descriptor) else "damaged or missing"
        return ""

    states = dict(zip(needed.parts, noted("reading blobs", pool.map(state, needed.parts.values()), len(needed.parts)), strict=True))
    done.blobs, done.size = len(needed.parts), sum(part.descriptor.size for _mended, part in needed.parts.values())
    return {key: what for key, what in states.items() if what}


def _other_trees(library: Library, damaged: set[tuple[str, str]], done: Scrub, pool: Executor) -> dict[_Key, str]:
    """The packages, but for those of ``damaged`` releases, whose payload is another tree than their file index says, and how; notes in
    ``done`` those of another release."""

    def look(release: tuple[tuple[str, str], Descriptor]) -> tuple[_Key, str]:
        (name, version), package = release
        home, why = library.repository(name), ""
        try:
            contents = load_package(home, package.digest)
            if fault := contents.misnamed(name, version):
                done.misnamed[name, version] = fault
            verify_payload(home, contents)
        except IntegrityError as error:
            why = str(error)
        return ("" if isinstance(library, OciLayout) else name, package.digest), why

    found = pool.map(look, [release for release in library.releases().items() if release[0] not in damaged])
    return {key: why for key, why in found if why}


def _repository(library: Library | None, name: str) -> Repository | None:
    try:
        return library.repository(name) if library else None
    except TidegateError:  # a name that no registry can have
        return None
