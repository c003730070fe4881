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
from collections.abc import Collection, Iterable, Iterator, Mapping
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
_FORMAT = "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Want}\\t${db:Status-Status}\\t${db:Status-Eflag}\\n"
_ABSENT = ("not-installed", "config-files")
_STEP = re.compile(r"(Inst|Remv|Purg) ([^\s:]+)")
# The conffiles (c) are for whoever runs the host to change.
_CHANGED = re.compile(r"(?:missing  |[?.5]{9}) (?P<conffile>[ c]) (?P<path>/.*)")


class Dpkg:
    """dpkg and apt of this host; raises :class:`HostError` where there are none, or where this process may not use them."""

    def __init__(self) -> None:
        check_tools("Debian", "dpkg", "dpkg-deb", "dpkg-query", "apt-get")

    def installed(self, names: Collection[str]) -> dict[str, PackageEntry]:
        """Those of the packages ``names`` that are on this host, in whatever state."""
        rows = ask(["dpkg-query", "-W", "-f", _FORMAT, *names])[0] if names else ""
        found = {}
        for row in rows.splitlines():
            name, architecture, version, want, status, fault = row.split("\t")
            if status not in _ABSENT:
                found[name] = PackageEntry(name, architecture, version, (status, fault) == ("installed", "ok"), want == "hold")
        return found

    def changed(self, names: Collection[str]) -> dict[str, list[str]]:
        """By package of ``names``, all of which are installed: its files that are missing or not what was installed."""
        excluded = _exclusions()
        found = {}
        for name in names:
            matches = (_CHANGED.fullmatch(line) for line in ask(["dpkg", "--verify", name])[0].splitlines())
            paths = [match["path"] for match in matches if match and match["conffile"] == " " and not excluded(match["path"])]
            if paths:
                found[name] = paths
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

    def problem(self, files: Mapping[str, str], gone: Collection[str]) -> str:
        """Why ``files``, by package, can't be installed and ``gone`` removed, or not without others; nothing when that can be done."""
        said, why, status = ask([*_APT, "--simulate", "--reinstall", "install", *files.values(), *(f"{name}-" for name in gone)])
        if status:
            needs = [" ".join(line.split()) for line in said.splitlines() if line.startswith(" ")]
            return "; ".join(needs) or " ".join(why.split())
        steps = [match for match in map(_STEP.match, said.splitlines()) if match]
        arriving = {one[2] for one in steps if one[1] == "Inst"}
        others = [*sorted(arriving - files.keys()), *sorted({one[2] for one in steps if one[1] != "Inst"} - set(gone))]
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
    def change(run: Run, files: Collection[str], gone: Collection[str], config: str) -> None:
        """Install ``files`` anew and remove the packages ``gone``; the lock has to be held."""
        options = [part for option in _CONFFILES[config] for part in ("-o", f"Dpkg::Options::={option}")]
        run([*_APT, *options, "--reinstall", "install", *files, *(f"{name}-" for name in gone)])

    @staticmethod
    def remove_broken(run: Run, names: Collection[str]) -> None:
        """Remove packages of which apt would want a file first, to make them whole; the lock has to be held."""
        run(["dpkg", "--force-remove-reinstreq", "--remove", *names])

    def hold(self, names: Iterable[str], hold: bool) -> None:
        """Have upgrades leave packages alone, or not any more; the lock has to be held."""
        selections = "".join(f"{name} {'hold' if hold else 'install'}\n" for name in names)
        _said, why, status = ask(["dpkg", "--set-selections"], selections)
        if status:
            raise HostError(f"dpkg can't hold packages: {' '.join(why.split())}")


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
