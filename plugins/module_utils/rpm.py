# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's rpm: what is installed, and a change of it for which nothing but files on this host is looked at.

rpm resolves nothing, it only says whether what it is given and what is installed go together, which is all that is wanted here. So it is
rpm that is run where a host's dnf or zypper would go and look for more.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from .package_manager import PackageEntry, Run, ask, check_tools, lock
from .release_record import HostError

_FORMAT = "%{NAME}\\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\t%{ARCH}\\n"
_ANY = "noarch"
_UPGRADE = ("rpm", "--upgrade", "--oldpackage", "--replacepkgs")
# Type, content, link or owner; the configuration (c) is for whoever runs the host to change, and when it was written says nothing.
_CHANGED = re.compile(r"(?:missing|(?=[^ ]*[SM5LUG])[SM5DLUGTPC.?]{8,9}) +(?:(?P<kind>[a-z]) +)?(?P<path>/.*?)(?: \([^)]*\))?")


class Rpm:
    """rpm of this host; raises :class:`HostError` where there is none, or where this process may not use it."""

    def __init__(self) -> None:
        check_tools("rpm", "rpm")

    def installed(self, sought: Mapping[str, Sequence[str]]) -> dict[str, PackageEntry]:
        """Those of the packages ``sought``, each with its architectures, that are on this host, in whatever state, by name.

        A package for another architecture is another one, which may be there too; but not where one of the two is for any.
        """
        found: dict[str, PackageEntry] = {}
        for row in ask(["rpm", "--query", "--queryformat", _FORMAT, *sought])[0].splitlines() if sought else ():
            if row.count("\t") == 2:
                name, version, architecture = row.split("\t")
                if architecture in sought[name] or _ANY in (architecture, *sought[name]):
                    # What was interrupted leaves the old package beside the new one.
                    found[name] = PackageEntry(name, architecture, version, name not in found, False)
        return found

    def changed(self, packages: Iterable[PackageEntry]) -> dict[str, list[str]]:
        """By name of ``packages``, which are installed: the files that are missing or not what was installed."""
        found = {}
        for one in packages:
            matches = map(_CHANGED.fullmatch, ask(["rpm", "--verify", "--nodeps", "--noscripts", _address(one)])[0].splitlines())
            paths = [match["path"] for match in matches if match and match["kind"] != "c"]
            if paths:
                found[one.name] = paths
        return found

    def takes(self, architecture: str) -> bool:
        """Whether packages for that architecture can be installed here: :meth:`problem` knows, for rpm does."""
        return bool(architecture)

    def read(self, path: str) -> list[str]:
        """Name, version and architecture of the package in a file; raises :class:`HostError` when it is none."""
        said, _why, status = ask(["rpm", "--query", "--queryformat", _FORMAT, "--package", path])
        if status:
            raise HostError(f"{path} is no package that rpm can read; archive the release again")
        return said.rstrip("\n").split("\t")

    def problem(self, files: Mapping[str, str], gone: Collection[PackageEntry]) -> str:
        """Why ``files``, by package, can't be installed; nothing when they can. Whether ``gone`` can go shows when these are there."""
        why, status = ask([*_UPGRADE, "--test", *files.values()])[1:] if files else ("", 0)
        if not files and gone:
            why, status = ask(["rpm", "--erase", "--test", "--allmatches", *map(_address, gone)])[1:]
        return "; ".join(" ".join(line.split()) for line in why.splitlines()) or "rpm does not say why" if status else ""

    @contextlib.contextmanager
    def locked(self, seconds: float) -> Iterator[None]:
        """Wait until nobody else changes packages; raises :class:`HostError` when that takes longer. rpm itself takes the lock then."""
        with lock(ask(["rpm", "--eval", "%{_rpmlock_path}"])[0].strip(), seconds):
            pass
        yield

    @staticmethod
    def heal(_run: Run) -> None:
        """Nothing: the database is whole at every moment, and what it has twice goes with the next change."""

    @staticmethod
    def change(run: Run, files: Collection[str], gone: Collection[PackageEntry], _config: str) -> None:
        """Install ``files`` anew and remove the packages ``gone``; what becomes of configuration is said by each package."""
        if files:
            run([*_UPGRADE, *files])
        if gone:
            run(["rpm", "--erase", "--allmatches", *map(_address, gone)])

    @staticmethod
    def remove_broken(run: Run, gone: Collection[PackageEntry]) -> None:
        """Remove packages that are there twice."""
        run(["rpm", "--erase", "--allmatches", *map(_address, gone)])

    def hold(self, packages: Iterable[PackageEntry], _hold: bool) -> None:
        """Nothing: rpm knows no holds, and no release asks for any."""


def _address(package: PackageEntry) -> str:
    """Which package rpm is meant to look at, of those with one name."""
    return f"{package.name}.{package.architecture}"
