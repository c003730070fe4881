# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of the operating system that a release brings in its payload, and what has to be so for them to be archived."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...module_utils.release_record import PACKAGE_WORDS
from ..errors import Problem, TidegateError
from ..versions import DEB, fits

if TYPE_CHECKING:
    from .package_files import Meter
    from .payload import FileEntry

_TIMEOUT = 600  # seconds, unless the manifest says
_ANY = ("all", "noarch")  # the architectures of packages that are for every one
CONFIG, NOREPLACE = 1, 16  # flags of files in a package of rpm
# One package that another one needs, by Debian's policy: name, for which architecture, and which versions.
_NEED = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:\(\s*(?P<sign><<|<=|=|>=|>>)\s*(?P<version>[^\s)]+)\s*\))?")
_SIGNS = {"<<": "<", "=": "==", ">>": ">"}


@dataclass(frozen=True)
class SystemPackage:
    """One package, in the file ``path`` of the payload."""

    path: str
    name: str
    version: str
    architecture: str


@dataclass(frozen=True)
class SystemPackages:
    """The packages that a release brings, and how they are installed.

    ``files``: a pattern of paths in the payload. ``hold``: upgrades from elsewhere leave them alone. ``config``: ``keep`` what somebody
    changed in their configuration files, or ``replace`` it. ``on_first``: what is done where one of them is that no release brought,
    ``refuse``, or replace it and ``remove`` it on the way back. ``timeout``: seconds, for an installation and for others that hold the
    lock. ``contents``: what is in the files, by path; nothing before that was looked at.
    """

    format: str
    files: str
    hold: bool = True
    config: str = "keep"
    on_first: str = "refuse"
    timeout: float = _TIMEOUT
    contents: tuple[SystemPackage, ...] = ()

    def to_config(self) -> dict[str, Any]:
        """All of it in the shape of the schema."""
        return {
            **{key: getattr(self, key) for key in ("format", "files", "hold", "config", "on_first", "timeout")},
            "contents": [vars(one) for one in self.contents],
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> SystemPackages:
        """Read it from the shape of the schema."""
        contents = tuple(SystemPackage(**one) for one in sorted(data.get("contents", ()), key=lambda one: str(one["path"])))
        return cls(**{**data, "contents": contents})

    def chosen(self, entries: Collection[FileEntry]) -> list[FileEntry]:
        """Those of a payload's entries that the pattern is for."""
        return [entry for entry in entries if _matches(entry.path, self.files)]


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern is for a path; what stands for any text stands for none with a slash in it."""
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def read_contents(own: SystemPackages, root: Path, where: str, entries: Collection[FileEntry]) -> tuple[list[SystemPackage], list[Problem]]:
    """What is in the files of a payload that the packages are in, and everything that must not be archived.

    ``root`` is the payload's directory, called ``where`` in the problems.
    """
    from .package_files import FAULTS, Meter  # noqa: PLC0415 - each fork that stages loads this module, and has no use for it

    found: list[SystemPackage] = []
    needs: dict[str, str] = {}
    problems: list[Problem] = []
    chosen = own.chosen(entries)
    if not chosen:
        problems.append(Problem(f"{where}/{own.files}", "no file of the payload is meant by packages.files", "put the packages there"))
    meter = Meter()
    for entry in chosen:
        place = f"{where}/{entry.path}"
        if entry.type != "file":
            problems.append(Problem(place, f"it is a {entry.type}, and a package is a file", "put the package itself there"))
            continue
        try:
            with (root / entry.path).open("rb") as stream:
                said, needed = _read_deb(stream, meter) if own.format == DEB else _read_rpm(stream)
        except FAULTS as error:
            problems.append(Problem(place, f"it is no {own.format} that can be read ({error})", "build it again"))
            continue
        if wrong := [f"{key} {said[key]!a:.60}" for key, pattern in PACKAGE_WORDS.items() if not pattern.fullmatch(said[key])]:
            problems.append(Problem(place, f"it has the {', the '.join(wrong)}, which none can be", "build it again"))
            continue
        one = SystemPackage(entry.path, **said)
        found.append(one)
        needs[one.name] = needed
    problems += (Problem(f"{where}/{one.path}", what, remedy) for one, what, remedy in _faults(found))
    by_name = {one.name: one for one in found}
    for name, needed in needs.items():
        for clause in _unmet(needed, by_name):
            what = f"{name} {by_name[name].version} needs {clause}, and the release brings it in another version"
            problems.append(Problem(f"{where}/{by_name[name].path}", what, "put versions into the release that go together"))
    return found, problems


def _read_deb(stream: BinaryIO, meter: Meter) -> tuple[dict[str, str], str]:
    """What a package of Debian is by :data:`PACKAGE_WORDS`, and what it needs."""
    from .package_files import deb_control  # noqa: PLC0415 - as above

    control = deb_control(stream, meter)
    said = dict(zip(PACKAGE_WORDS, (control[field] for field in ("Package", "Version", "Architecture")), strict=True))
    return said, ", ".join(filter(None, (control["Pre-Depends"], control["Depends"])))


def _read_rpm(stream: BinaryIO) -> tuple[dict[str, str], str]:
    """As :func:`_read_deb`; what a package of rpm needs is for the host to say."""
    from .package_files import rpm_header  # noqa: PLC0415 - as above

    header = rpm_header(stream)
    if "source" in header:
        raise ValueError("it is a source package")
    if any(flags & CONFIG and not flags & NOREPLACE for flags in header.get("flags", ())):
        raise ValueError("it has %config without noreplace, so what somebody edited would not stay")
    epoch = f"{header['epoch'][0]}:" if "epoch" in header else ""
    version = f"{epoch}{header['version']}-{header['release']}"
    return {"name": header["name"], "version": version, "architecture": header["architecture"]}, ""


def check_contents(own: SystemPackages, files: Collection[FileEntry]) -> str:
    """Why a package's config can't be right about the packages in its payload; nothing when it can."""
    chosen = [entry.path for entry in own.chosen(files) if entry.type == "file"]
    if chosen != [one.path for one in own.contents]:
        return "lists other files as packages than its payload has"
    return next((f"says of {one.path} that {what}" for one, what, _remedy in _faults(own.contents)), "")


def _faults(contents: Collection[SystemPackage]) -> Iterator[tuple[SystemPackage, str, str]]:
    """What is wrong with packages beside one another: the package, the sentence, and the remedy."""
    by_name: dict[str, SystemPackage] = {}
    for one in contents:
        other = by_name.setdefault(one.name, one)
        if other is not one:
            yield one, f"it is the package {one.name}, as {other.path} is", "have each once"
    architectures = {one.architecture: one for one in reversed(list(contents)) if one.architecture not in _ANY}
    for architecture, one in sorted(architectures.items())[1:]:
        first = min(architectures)
        yield one, f"it is for {architecture}, and {architectures[first].path} is for {first}", "make a release for each architecture"


def _unmet(needs: str, by_name: Mapping[str, SystemPackage]) -> Iterator[str]:
    """The clauses of a package's dependencies that only packages of the release could meet, and none does."""
    for clause in filter(None, (" ".join(part.split()) for part in needs.split(","))):
        alternatives = [_NEED.fullmatch(one.strip()) for one in clause.split("|")]
        known = [one for one in alternatives if one and one["name"] in by_name]
        with contextlib.suppress(TidegateError):  # what can't be ordered here is for the host to say
            if len(known) == len(alternatives) and not any(_meets(by_name[one["name"]].version, one) for one in known):
                yield clause


def _meets(version: str, need: re.Match[str]) -> bool:
    return not need["sign"] or fits(version, f"{_SIGNS.get(need['sign'], need['sign'])}{need['version']}", DEB)
