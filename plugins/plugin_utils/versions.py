# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges of versions such as ``>=2.0,<3``, by the rules of those who number them. Pure.

A version or range that the scheme can't order is never taken for one that fits: :class:`UnorderedError`.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import TidegateError
from .libs import require

with contextlib.suppress(ImportError):
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

PEP440, SEMVER, DEB, RPM = "pep440", "semver", "deb", "rpm"
TEXT = "text"
"""Nothing orders the versions: a range lists those that are in it, with commas between them."""

# What each scheme takes for a version. The library would make something of anything.
_SHAPES: Mapping[str, re.Pattern[str]] = {
    SEMVER: re.compile(
        r"(?:0|[1-9]\d{0,8})(?:\.(?:0|[1-9]\d{0,8})){2}(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z.-]+)?", re.ASCII
    ),
    DEB: re.compile(r"(?:\d{1,9}:)?\d[A-Za-z0-9.+~]*(?:-[A-Za-z0-9.+~]+)*", re.ASCII),
    RPM: re.compile(r"(?:\d{1,9}:)?\d[A-Za-z0-9._+~^]*(?:-[A-Za-z0-9._+~^]+)?", re.ASCII),
}
_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\S+)\s*")
# The library takes two versions for equal when they are written the same; to their scheme 1.0.0+a and 1.0.0+b are, too.
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": lambda one, other: one >= other and one <= other,
    "!=": lambda one, other: one > other or one < other,
    ">": operator.gt,
    "<": operator.lt,
}
_LONGEST = 200  # characters of a version


class UnorderedError(TidegateError):
    """A version or a range that the scheme can't order."""


@functools.lru_cache(maxsize=10_000)
def fits(version: str, versions: str, scheme: str) -> bool:
    """Whether ``version`` is in the range ``versions``; an empty range has every version.

    Raises :class:`UnorderedError`, and :class:`MissingLibraryError` when the scheme needs a library that is not there.
    """
    if not versions:
        return True
    if scheme == TEXT:
        return version in _texts(versions)
    if scheme == PEP440:
        try:
            return Version(_short(version, scheme)) in _specifiers(versions)
        except InvalidVersion:
            raise UnorderedError(f"{version!a:.60} is no version of the scheme {scheme}") from None
    ordered = _ordered(version, scheme)
    # To rpm 1.0 is every release of 1.0.
    upstream = _ordered(version.partition("-")[0], scheme) if scheme == RPM else ordered
    return all(_COMPARE[sign](ordered if released else upstream, end) for sign, end, released in _clauses(versions, scheme))


def check_range(versions: str, scheme: str) -> None:
    """Raise :class:`UnorderedError` unless ``versions`` is a range of the scheme."""
    if scheme == TEXT:
        _texts(versions)
    elif scheme == PEP440:
        _specifiers(versions)
    else:
        _clauses(versions, scheme)


def _texts(versions: str) -> frozenset[str]:
    texts = frozenset(part.strip() for part in versions.split(","))
    if odd := sorted(text for text in texts if not text or text[0] in "<>=!"):
        raise UnorderedError(f"{odd[0]!a:.60} is no version, and the scheme {TEXT} has no order")
    return texts


@functools.lru_cache(maxsize=1000)
def _specifiers(versions: str) -> SpecifierSet:
    try:
        return SpecifierSet(versions, prereleases=True)
    except InvalidSpecifier:
        raise UnorderedError(f"{versions!a:.60} is no range of versions of the scheme {PEP440}") from None


@functools.lru_cache(maxsize=1000)
def _clauses(versions: str, scheme: str) -> tuple[tuple[str, Any, bool], ...]:
    """Each sign, the end of the range that it is before, and whether that names a release of a package."""
    found = []
    for part in versions.split(","):
        clause = _CLAUSE.fullmatch(part)
        if clause is None:
            raise UnorderedError(f"{versions!a:.60} is no range of versions")
        found.append((clause[1], _ordered(clause[2], scheme), "-" in clause[2]))
    return tuple(found)


def _ordered(version: str, scheme: str) -> Any:
    """A version as something that can be compared."""
    if not _SHAPES[scheme].fullmatch(_short(version, scheme)):
        raise UnorderedError(f"{version!a:.60} is no version of the scheme {scheme}")
    require("versions")
    from univers import versions  # noqa: PLC0415 - only some releases name such a scheme

    kind = {SEMVER: versions.SemverVersion, DEB: versions.DebianVersion, RPM: versions.RpmVersion}[scheme]
    try:
        return kind(version)
    except Exception as error:  # whatever it makes of it, it is not ordered
        raise UnorderedError(f"{version!a:.60} is no version of the scheme {scheme}") from error


def _short(version: str, scheme: str) -> str:
    if len(version) > _LONGEST:
        raise UnorderedError(f"{version!a:.60} is too long for a version of the scheme {scheme}")
    return version
