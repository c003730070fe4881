# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find which releases and evidence a library lacks that it had, or that a replica of it has, and bring them back from there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ..errors import IntegrityError
from .descriptors import Descriptor
from .replica import replicate
from .repository import Library
from .scrub import Scrub
from .seen import Loss, Snapshot, how_to_copy_evidence, losses

Key = tuple[str, str]
"""The name and the version of a release."""


@dataclass
class Recovery:
    """``lost``: what the library lacks; ``healed``: what came back from the replica, or without writing could. ``behind``: what the
    replica lacks of it, releases and pieces of evidence. ``problems``: a sentence for each thing that can't be told or brought back.
    """

    lost: list[Loss] = field(default_factory=list)
    healed: list[Loss] = field(default_factory=list)
    behind: tuple[int, int] = (0, 0)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Meant:
    """What a library is meant to have. ``seen``: what it had, as far as that is remembered; ``purged``: what was taken away with a reason.
    ``names``: the releases that it is for; ``None`` for all.
    """

    seen: Mapping[Key, Snapshot] = field(default_factory=dict)
    purged: Collection[Key] = ()
    names: Collection[str] | None = None

    def releases(self) -> set[str]:
        """The names of the releases that it had, or is for."""
        return {*(self.names or ()), *(name for name, version in self.seen if self.has((name, version)))}

    def retired(self, key: Key) -> set[str]:
        """The evidence about a release that was taken out of the library with a reason."""
        return {digest for digest, piece in self.seen[key].evidence.items() if piece.retired} if key in self.seen else set()

    def has(self, key: Key) -> bool:
        """Whether a release belongs there."""
        return key not in self.purged and (self.names is None or key[0] in self.names)


def recover(library: Library, replica: Library | None, meant: Meant, write: bool) -> Recovery:
    """Compare the releases of a library, and the evidence about each, with what it had and what ``replica`` has; heal it from there.

    Nothing is overwritten: a version that is another package here than there, or than it was, is a problem. Without ``write`` nothing is
    changed. The bytes of what is there are the scrub's affair.
    """
    found = Recovery()
    theirs = {key: package for key, package in replica.releases(meant.releases()).items() if meant.has(key)} if replica else {}
    lost = _compare(library, replica, theirs, meant, found)
    if replica is None or not lost:
        found.lost = lost
        return found
    able = {
        key: theirs[key]
        for key in sorted({_key(loss) for loss in lost} & theirs.keys())
        if meant.seen.get(key) is None or meant.seen[key].digest == theirs[key].digest
    }
    copied = replicate(replica, library, able, lambda _name, _version, _digest: "", write, meant.retired)
    found.problems += copied.problems
    if write:
        found.lost = _compare(library, replica, theirs, meant, Recovery())
    else:
        # What the replica lacks as well does not come back; of a release that is wholly lost, that is more than is known by now.
        whole, there = library.releases(_also(theirs, meant)).keys(), _compare(replica, None, {}, meant, Recovery())
        found.lost = [loss for loss in lost if _key(loss) not in able or loss in there]
        found.lost += [loss for loss in there if _key(loss) in able and _key(loss) not in whole]
    found.healed = [loss for loss in lost if loss not in found.lost]
    return found


def vanished(library: Library, found: Scrub, recovery: Recovery, meant: Meant) -> list[str]:
    """A sentence for each release that was there by the library's own account, and is not, but for those that ``recovery`` names."""
    named = {_key(loss) for loss in recovery.lost + recovery.healed}
    there = {name for name, _version in found.releases} | {name for name, _version in (*named, *meant.purged)}
    wanted = library.listed() if meant.names is None else meant.names
    why = "which is in the list of releases" if meant.names is None else "which is asked for"
    sentences = [
        f"there is no version of {name}, {why}; bring it back from a replica, or give tidegate_cmdb if it was purged"
        for name in sorted(set(wanted) - there)
    ]
    return sentences + [
        f"{one.name!a} {one.version!a}, {one.digest}, has evidence in the blobs and no tag; bring it back from a replica, or archive it "
        "again"
        for one in found.untagged
        if one.evidence and (one.name, one.version) not in named and meant.has((one.name, one.version))
    ]


def unfinished(found: Scrub, meant: Meant) -> list[str]:
    """A sentence for each package in the blobs that no tag and no evidence names."""
    return [
        f"{one.name!a} {one.version!a}, {one.digest}, is in the blobs and has no tag, so it is no release; its archiving was interrupted, "
        "or its tag taken away: archive it again if it is one"
        for one in found.untagged
        if not one.evidence and meant.has((one.name, one.version))
    ]


def without_evidence(found: Scrub) -> list[str]:
    """A sentence about releases that came without evidence into a library that has some, as other tools copy them."""
    bare = sorted((*key, digest) for key, (digest, pieces) in found.releases.items() if not pieces)
    if not bare or len(bare) == len(found.releases):
        return []
    name, version, digest = bare[0]
    more = f" and {len(bare) - 1} more have" if len(bare) > 1 else " has"
    return [f"{name} {version}{more} no evidence; {how_to_copy_evidence(digest)}"]


def _also(theirs: Mapping[Key, Descriptor], meant: Meant) -> set[str]:
    """What to look for even if the library does not list it."""
    return meant.releases() | {name for name, _version in theirs}


def _key(loss: Loss) -> Key:
    return loss.name, loss.version


def _compare(library: Library, replica: Library | None, theirs: Mapping[Key, Descriptor], meant: Meant, found: Recovery) -> list[Loss]:
    """What the library lacks, each thing once; notes in ``found`` what the replica lacks, and what can't be compared."""
    ours = {key: package for key, package in library.releases(_also(theirs, meant)).items() if meant.has(key)}
    lost: dict[tuple[Key, str], Loss] = {}
    pieces = 0
    for key in sorted(ours.keys() | theirs.keys() | {key for key in meant.seen if meant.has(key)}):
        here, there = ours.get(key), theirs.get(key)
        evidence = None if here is None else _evidence(library, key, here.digest)
        if key in meant.seen:
            lost |= {(key, loss.digest): loss for loss in losses(meant.seen[key], here.digest if here else None, evidence)}
        if there is None:
            continue
        if here is None:
            lost.setdefault((key, there.digest), Loss(*key, there.digest, "the package, which the replica has,"))
        elif here.digest != there.digest:
            found.problems.append(
                f"{' '.join(key)} is {here.digest} here and {there.digest} in the replica; find out which of them is right"
            )
        elif evidence is not None and replica is not None:
            beside = _evidence(replica, key, there.digest)
            pieces += len(evidence - (beside or set()))
            for digest in sorted((beside or set()) - evidence - meant.retired(key)):
                lost.setdefault((key, digest), Loss(*key, digest, "evidence that the replica has,"))
    found.behind = (len(ours.keys() - theirs.keys()), pieces) if replica is not None else (0, 0)
    return list(lost.values())


def _evidence(library: Library, key: Key, digest: str) -> set[str] | None:
    """What refers to a package; ``None`` when the list of it is damaged, which the scrub says."""
    try:
        return {entry.digest for entry in library.repository(key[0]).referrers(digest)}
    except IntegrityError:
        return None
