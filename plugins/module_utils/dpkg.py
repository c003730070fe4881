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
import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Callable, NamedTuple

from .release_record import HostError

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "DPKG_FRONTEND_LOCKED": "1",  # by :meth:`Dpkg.locked`
}
"""For all that is run here; questions would be answered by nobody."""

_LOCK = "/var/lib/dpkg/lock-frontend"
_EXCLUDES = ("/etc/dpkg/dpkg.cfg", "/etc/dpkg/dpkg.cfg.d")
_INTERVAL = 0.5  # seconds between two attempts to get the lock
_ASKED = 120  # seconds for a command that changes nothing
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


class DpkgEntry(NamedTuple):
    """A package as dpkg has it. ``whole``: it is unpacked and configured. ``held``: upgrades leave it alone."""

    name: str
    architecture: str
    version: str
    whole: bool
    held: bool


# Runs a command that changes something.
Run = Callable[[Sequence[str]], None]


class Dpkg:
    """dpkg and apt of this host; raises :class:`HostError` where there are none, or where this process may not use them."""

    def __init__(self) -> None:
        missing = [name for name in ("dpkg", "dpkg-deb", "dpkg-query", "apt-get") if not shutil.which(name, path=ENVIRONMENT["PATH"])]
        if missing:
            raise HostError(
                f"this host has no {missing[0]}, so no package of Debian's format can be installed; deploy to hosts that have it"
            )
        if os.geteuid() != 0:
            raise HostError("only root installs packages; set tidegate_become or connect as root")

    def installed(self, names: Collection[str]) -> dict[str, DpkgEntry]:
        """Those of the packages ``names`` that are on this host, in whatever state."""
        rows = self._ask(["dpkg-query", "-W", "-f", _FORMAT, *names])[0] if names else ""
        found = {}
        for row in rows.splitlines():
            name, architecture, version, want, status, fault = row.split("\t")
            if status not in _ABSENT:
                found[name] = DpkgEntry(name, architecture, version, (status, fault) == ("installed", "ok"), want == "hold")
        return found

    def changed(self, names: Collection[str]) -> dict[str, list[str]]:
        """By package of ``names``, all of which are installed: its files that are missing or not what was installed."""
        excluded = _exclusions()
        found = {}
        for name in names:
            matches = (_CHANGED.fullmatch(line) for line in self._ask(["dpkg", "--verify", name])[0].splitlines())
            paths = [match["path"] for match in matches if match and match["conffile"] == " " and not excluded(match["path"])]
            if paths:
                found[name] = paths
        return found

    def architectures(self) -> set[str]:
        """Those whose packages can be installed here."""
        own, more = (self._ask(["dpkg", f"--print-{what}"])[0] for what in ("architecture", "foreign-architectures"))
        return {"all", *own.split(), *more.split()}

    def read(self, path: str) -> list[str]:
        """Name, version and architecture of the package in a file; raises :class:`HostError` when it is none."""
        said, _why, status = self._ask(["dpkg-deb", "--show", "--showformat", "${Package}\\t${Version}\\t${Architecture}", path])
        if status:
            raise HostError(f"{path} is no package that dpkg can read; archive the release again")
        return said.split("\t")

    def forecast(self, files: Collection[str], gone: Collection[str]) -> tuple[set[str], set[str], str]:
        """What would be installed and what removed, by name, to install ``files`` and remove ``gone``; or why that can't be done."""
        said, why, status = self._ask([*_APT, "--simulate", "--reinstall", "install", *files, *(f"{name}-" for name in gone)])
        if status:
            needs = [" ".join(line.split()) for line in said.splitlines() if line.startswith(" ")]
            return set(), set(), "; ".join(needs) or " ".join(why.split())
        steps = [match for match in map(_STEP.match, said.splitlines()) if match]
        return {one[2] for one in steps if one[1] == "Inst"}, {one[2] for one in steps if one[1] != "Inst"}, ""

    @contextlib.contextmanager
    def locked(self, seconds: float) -> Iterator[None]:
        """Hold the lock that all who change packages take; raises :class:`HostError` when somebody else has it for longer."""
        import fcntl  # noqa: PLC0415 - only this needs it

        deadline = time.monotonic() + seconds
        descriptor = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
        try:
            while True:
                try:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise HostError(
                            f"somebody else has been changing packages for more than {seconds:g} s; wait for whoever holds {_LOCK} "
                            "(fuser shows the process) and run this again"
                        ) from None
                    time.sleep(_INTERVAL)
            yield
        finally:
            os.close(descriptor)

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
        _said, why, status = self._ask(["dpkg", "--set-selections"], selections)
        if status:
            raise HostError(f"dpkg can't hold packages: {' '.join(why.split())}")

    @staticmethod
    def _ask(command: Sequence[str], given: str = "") -> tuple[str, str, int]:
        """What a command prints, and on standard error, and its exit status."""
        try:
            done = subprocess.run(command, input=given.encode(), env=ENVIRONMENT, cwd="/", capture_output=True, check=False, timeout=_ASKED)
        except subprocess.TimeoutExpired:
            raise HostError(f"{command[0]} does not answer within {_ASKED} s; look at it on the host") from None
        return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), done.returncode


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
