# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's dpkg and apt: what is installed, and a change of it for which nothing but files on this host is looked at.

What depends on what is apt's to know. It gets no sources, no lists and no preferences, so all that it can choose from is what is
installed and the files that it is given, and nothing is fetched.
"""

from __future__ import annotations

import contextlib
import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Callable

from .package_manager import PackageEntry, Run, ask, check_tools, lock
from .release_record import HostError

_LOCK = "/var/lib/dpkg/lock-frontend"
_EXCLUDES = ("/etc/dpkg/dpkg.cfg", "/etc/dpkg/dpkg.cfg.d")
_APT = (
    *("apt-get", "-q", "-y", "--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages"),
    "--fix-broken",  # or it would not bring back what somebody removed in spite of what needs it
    *("-o", "Dir::Etc::sourcelist=/dev/null", "-o", "Dir::Etc::sourceparts=/dev/null", "-o", "Dir::State::lists=/nonexistent/"),
    *("-o", "Dir::Etc::preferences=/dev/null", "-o", "Dir::Etc::preferencesparts=/dev/null", "-o", "APT::Default-Release="),
    *("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "APT::Get::AutomaticRemove=false"),
    *("-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=true"),  # the lock is held already, for more than apt would
    *("-o", "Dpkg::Use-Pty=false", "-o", "Dir::Log::Terminal="),  # there need not be a terminal, and the output is kept elsewhere
)
_CONFFILES = {"keep": ("--force-confdef", "--force-confold"), "replace": ("--force-confnew",)}
_FORMAT = "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Want}\\t${db:Status-Status}\\t${db:Status-Eflag}\\t${Multi-Arch}\\n"
_ABSENT = ("not-installed", "config-files")
_STEP = re.compile(r"(Inst|Remv|Purg) (([^\s:]+)\S*)")
# The conffiles (c) are for whoever runs the host to change.
_CHANGED = re.compile(r"(?:missing  |[?.5]{9}) (?P<conffile>[ c]) (?P<path>/.*)")


class Dpkg:
    """dpkg and apt of this host; raises :class:`HostError` where there are none, or where this process may not use them."""

    def __init__(self) -> None:
        check_tools("Debian", "dpkg", "dpkg-deb", "dpkg-query", "apt-get")

    def installed(self, sought: Mapping[str, Sequence[str]]) -> dict[str, PackageEntry]:
        """Those of the packages ``sought`` that are on this host, in whatever state, by name; each with its architectures, the best first.

        A package that may be there for several architectures at once is another one for each.
        """
        rows = ask(["dpkg-query", "-W", "-f", _FORMAT, *sought])[0] if sought else ""
        found: dict[str, PackageEntry] = {}
        for row in rows.splitlines():
            name, architecture, version, want, status, fault, several = row.split("\t")
            another = several == "same" and architecture not in sought[name]
            if status not in _ABSENT and not another and (name not in found or architecture == sought[name][0]):
                found[name] = PackageEntry(name, architecture, version, (status, fault) == ("installed", "ok"), want == "hold")
        return found

    def changed(self, packages: Iterable[PackageEntry]) -> dict[str, list[str]]:
        """By name of ``packages``, which are installed: the files that are missing or not what was installed."""
        excluded = _exclusions()
        found = {}
        for one in packages:
            matches = (_CHANGED.fullmatch(line) for line in ask(["dpkg", "--verify", _address(one)])[0].splitlines())
            paths = [match["path"] for match in matches if match and match["conffile"] == " " and not excluded(match["path"])]
            if paths:
                found[one.name] = paths
        return found

    def takes(self, architecture: str) -> bool:
        """Whether packages for that architecture can be installed here."""
        own, more = (ask(["dpkg", f"--print-{what}"])[0] for what in ("architecture", "foreign-architectures"))
        return architecture in {"all", *own.split(), *more.split()}

    def read(self, path: str) -> list[str]:
        """Name, version and architecture of the package in a file; raises :class:`HostError` when it is none."""
        said, _why, status = ask(["dpkg-deb", "--show", "--showformat", "${Package}\\t${Version}\\t${Architecture}", path])
        if status:
            raise HostError(f"{path} is no package that dpkg can read; archive the release again")
        return said.split("\t")

    def problem(self, files: Mapping[str, str], gone: Collection[PackageEntry]) -> str:
        """Why ``files``, by package, can't be installed and ``gone`` removed, or not without others; nothing when that can be done."""
        said, why, status = ask([*_APT, "--simulate", "--reinstall", "install", *files.values(), *_removals(gone)])
        if status:
            needs = [" ".join(line.split()) for line in said.splitlines() if line.startswith(" ")]
            return "; ".join(needs) or " ".join(why.split())
        steps = [match for match in map(_STEP.match, said.splitlines()) if match]
        arriving = {one[3] for one in steps if one[1] == "Inst"}
        leaving = {one[2] for one in steps if one[1] != "Inst"} - {said for one in gone for said in (one.name, _address(one))}
        others = [*sorted(arriving - files.keys()), *sorted(leaving)]
        if others:
            return f"{', '.join(others)} would have to change with them, which no file of the release is for"
        lacking = sorted(files.keys() - arriving)
        return f"apt would leave out {', '.join(lacking)}" if lacking else ""

    @contextlib.contextmanager
    def locked(self, seconds: float) -> Iterator[None]:
        """Hold the lock that all who change packages take; raises :class:`HostError` when somebody else has it for longer."""
        with lock(_LOCK, seconds):
            yield

    @staticmethod
    def heal(run: Run) -> None:
        """Bring to its end what an interrupted dpkg left; the lock has to be held."""
        run(["dpkg", "--force-confdef", "--force-confold", "--configure", "--pending"])

    @staticmethod
    def change(run: Run, files: Collection[str], gone: Collection[PackageEntry], config: str) -> None:
        """Install ``files`` anew and remove the packages ``gone``; the lock has to be held."""
        options = [part for option in _CONFFILES[config] for part in ("-o", f"Dpkg::Options::={option}")]
        run([*_APT, *options, "--reinstall", "install", *files, *_removals(gone)])

    @staticmethod
    def remove_broken(run: Run, gone: Collection[PackageEntry]) -> None:
        """Remove packages of which apt would want a file first, to make them whole; the lock has to be held."""
        run(["dpkg", "--force-remove-reinstreq", "--remove", *map(_address, gone)])

    def hold(self, packages: Iterable[PackageEntry], hold: bool) -> None:
        """Have upgrades leave packages alone, or not any more; the lock has to be held."""
        selections = "".join(f"{_address(one)} {'hold' if hold else 'install'}\n" for one in packages)
        _said, why, status = ask(["dpkg", "--set-selections"], selections)
        if status:
            raise HostError(f"dpkg can't hold packages: {' '.join(why.split())}")


def _address(package: PackageEntry) -> str:
    """Which package dpkg and apt are meant to look at, of those with one name."""
    return f"{package.name}:{package.architecture}"


def _removals(packages: Iterable[PackageEntry]) -> list[str]:
    return [f"{_address(one)}-" for one in packages]


def _exclusions() -> Callable[[str], bool]:
    """Says of a path whether dpkg was told not to install what is there, as small images have it of documentation."""
    rules: list[tuple[bool, str]] = []
    for place in map(Path, _EXCLUDES):
        for file in sorted(place.iterdir()) if place.is_dir() else [place]:
            with contextlib.suppress(OSError):
                for line in file.read_text(errors="replace").splitlines():
                    key, equals, pattern = line.strip().partition("=")
                    if equals and key.strip() in ("path-exclude", "path-include"):
                        rules.append((key.strip() == "path-exclude", pattern.strip()))

    def excluded(path: str) -> bool:
        return next((out for out, pattern in reversed(rules) if fnmatch.fnmatchcase(path, pattern)), False)

    return excluded
