# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of the operating system that a release brings, installed from its tree by the host's package manager.

The link ``current`` is flipped before any package is touched, so it says ahead which release's packages may be there, whole or not. A
package manager is not atomic: where it was interrupted or failed, the same step again, or the way back, begins by healing what it left and
installs whole files. What a step says of packages was read back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from .health import CheckError, run_command
from .package_manager import ENVIRONMENT, PackageEntry
from .processes import MARK
from .release_home import NAME, HostError, Release, ReleaseHome
from .release_hooks import Order
from .supervision import Precautions

_NAMED = 3  # what a sentence names of many
_HOOK = "packages"  # as which what runs here is supervised, and its output kept


if TYPE_CHECKING:
    from .dpkg import Dpkg
    from .rpm import Rpm

    Manager = Union[Dpkg, Rpm]


class Brought(NamedTuple):
    """A package that a release brings; ``path`` is where its file is on this host."""

    name: str
    version: str
    architecture: str
    path: str
    sha256: str


def brought(release: Optional[Release]) -> dict[str, Brought]:
    """The packages of a release, by name."""
    if release is None or not release.has_packages:
        return {}
    digests = {entry["path"]: entry.get("sha256", "") for entry in release.files}
    found = {}
    for one in release.config["packages"]["contents"]:
        path = one["path"]
        found[one["name"]] = Brought(one["name"], one["version"], one["architecture"], str(release.tree / path), digests.get(path, ""))
    return found


def refuse(home: ReleaseHome, target: Release, before: Optional[Release], *, untouched: bool, waits: bool = False) -> None:
    """Raise :class:`HostError` when the packages of ``target`` can't be installed here; nothing is changed.

    ``before`` is the release that the host has. ``untouched``: nothing of ``target`` was installed yet; what is there came from elsewhere.
    ``waits``: they are about to be installed, so whoever else changes packages has to be done with it.
    """
    manager, wanted, leaving = _manager(_said(target, before)), brought(target), brought(before)
    for one in wanted.values():
        if not one.sha256:
            raise HostError(f"{one.path} is no file of {target.name} {target.version}; archive the release again")
        found = manager.read(one.path)
        if found != [one.name, one.version, one.architecture]:
            raise HostError(f"{one.path} is {' '.join(found)}, and its release says {one.name} {one.version}; archive the release again")
        if not manager.takes(one.architecture):
            raise HostError(f"{one.name} is for {one.architecture}, which this host is not; deploy it elsewhere")
    refuse_owned(home, target)
    present = manager.installed(_sought(wanted, leaving))
    foreign = [present[name] for name in wanted if name not in leaving and name in present]
    if untouched and foreign and target.config["packages"]["on_first"] == "refuse":
        raise HostError(
            f"{_listed(foreign)} {'are' if len(foreign) > 1 else 'is'} here already and no release brought that, so nothing could "
            "bring it back; remove it, or have the packages of the release say on_first: remove"
        )
    # What is there from the same file stays, and apt could not bring it anew where another architecture has it too.
    stays = _unchanged(wanted, leaving) - _faults(wanted, present, hold=False).keys()
    files = {name: one.path for name, one in wanted.items() if name not in stays}
    problem = manager.problem(files, [present[name] for name in leaving if name not in wanted and name in present])
    if problem:
        raise HostError(f"the packages of {target.name} {target.version} can't be installed: {problem}")
    if waits:
        with manager.locked(_said(target, before)["timeout"]):
            pass


def bring(home: ReleaseHome, target: Optional[Release], order: Order) -> None:
    """Have the packages of ``target``, nothing for none, and not those that only the release has which is left.

    Raises :class:`CheckError` or :class:`HostError` when the host does not have them in the end.
    """
    said = _said(target, order.leaving)
    manager, wanted, leaving = _manager(said), brought(target), brought(order.leaving)
    present = manager.installed(_sought(wanted, leaving))
    spoilt = {*_faults(wanted, present, hold=False), *_changes(manager, wanted, present)}
    same = _unchanged(wanted, leaving)
    if target is not None and order.packages_of is not None and order.packages_of.id == target.id:
        same = set(wanted)
    files = {name: one.path for name, one in wanted.items() if name in spoilt or name not in same}
    gone = [present[name] for name in leaving if name not in wanted and name in present]

    def run(command: Sequence[str]) -> None:
        with home.running_hook(_HOOK) as mark:
            precautions = Precautions(order.redactor, clean=True)  # nor do maintainers' scripts get anything of a login
            run_command(list(command), said["timeout"], "/", {**ENVIRONMENT, MARK: mark}, str(home.output_of(_HOOK)), precautions)

    # Not when there is nothing to do: who goes back because of somebody's lock has to be able to.
    if files or gone or _unlike(manager, wanted, said["hold"]):
        with manager.locked(said["timeout"]):
            order.packages_of = None
            if files or gone:
                with contextlib.suppress(CheckError):  # what can't be configured may be what is about to be replaced
                    manager.heal(run)
                if any(not one.whole for one in gone):
                    manager.remove_broken(run, gone)
                    gone = []
            if files or gone:
                problem = manager.problem(files, gone)
                if problem:
                    raise CheckError(f"the packages can't be installed: {problem}")
                manager.change(run, files.values(), gone, said["config"])
            manager.hold(_unlike(manager, wanted, said["hold"]), said["hold"])
    # Not the files: what a package's own script changes of them is for audit to say.
    wrong = [one.sentence for one in _faults(wanted, manager.installed(_sought(wanted)), said["hold"]).values()]
    left = manager.installed(_sought({name: one for name, one in leaving.items() if name not in wanted}))
    wrong += (f"{one.name} {one.version} is still here" for one in left.values())
    if wrong:
        raise CheckError(f"after the installation {'; '.join(wrong)}")


class Difference(NamedTuple):
    """What of a package is not as it was installed, as a ``sentence`` about its ``name``.

    ``files``: those that are not; else ``entry``, the package with its architecture, when it came or, as ``gone`` says, went.
    """

    name: str
    sentence: str
    files: tuple[str, ...] = ()
    entry: str = ""
    gone: bool = False


def differences(release: Release) -> list[Difference]:
    """What of the packages of ``release``, the live one, is not as it was installed."""
    manager, wanted = _manager(release.config["packages"]), brought(release)
    present = manager.installed(_sought(wanted))
    faults = _faults(wanted, present, release.config["packages"]["hold"])
    return sorted([*faults.values(), *_changes(manager, wanted, present).values()])


def moments(found: Sequence[Difference]) -> list[float]:
    """When differences came about, as :func:`.since.first_to_last` has it; nothing as long as the host can't say it of each of them."""
    from .set_moments import moments_of  # noqa: PLC0415 - of differences alone
    from .since import first_to_last, of_files  # noqa: PLC0415 - as above

    known = moments_of("packages", {one.entry: "" for one in found if one.entry and not one.gone}, "")
    each = [of_files(one.files) if one.files else [known[one.entry]] if one.entry in known else [] for one in found]
    return first_to_last(moment for of_one in each for moment in of_one) if each and all(each) else []


def _said(*releases: Optional[Release]) -> dict[str, Any]:
    """How packages are changed, by the first of these releases that brings some."""
    return next(release.config["packages"] for release in releases if release is not None and release.has_packages)


def _manager(said: dict[str, Any]) -> Manager:
    """The package manager for the packages of a release; raises :class:`HostError` where there is none."""
    if said["format"] == "rpm":
        from .rpm import Rpm  # noqa: PLC0415 - a host has one of the two

        return Rpm()
    from .dpkg import Dpkg  # noqa: PLC0415 - as above

    return Dpkg()


def _unchanged(wanted: dict[str, Brought], leaving: dict[str, Brought]) -> set[str]:
    """The names of the packages that both releases bring in the same file."""
    return {name for name in wanted if name in leaving and leaving[name].sha256 == wanted[name].sha256}


def _sought(*releases: dict[str, Brought]) -> dict[str, list[str]]:
    """By name of a package that one of the releases brings, for which architectures they bring it."""
    return {name: [each[name].architecture for each in releases if name in each] for each in releases for name in each}


def _unlike(manager: Manager, wanted: dict[str, Brought], hold: bool) -> list[PackageEntry]:
    """Those of the packages that are installed and held when they should not be, or the other way round."""
    return [one for one in manager.installed(_sought(wanted)).values() if one.held != hold]


def _faults(wanted: dict[str, Brought], present: dict[str, PackageEntry], hold: bool) -> dict[str, Difference]:
    """By package that is not there as its release has it: what is wrong with it. ``hold``: it has to be held."""
    found = {}
    for name, one in wanted.items():
        here = present.get(name)
        entry = f"{name}:{(here or one).architecture}"
        if here is None:
            found[name] = Difference(name, f"{name} {one.version} is not installed", entry=entry, gone=True)
        elif (here.version, here.architecture) != (one.version, one.architecture):
            has, wants = (f"{each.version} {each.architecture}" for each in (here, one))
            found[name] = Difference(name, f"{name} is installed as {has}, and its release has {wants}", entry=entry)
        elif not here.whole:
            found[name] = Difference(name, f"{name} {one.version} is not wholly installed", entry=entry)
        elif hold and not here.held:
            found[name] = Difference(name, f"{name} {one.version} is not held, so an upgrade may replace it")
    return found


def _changes(manager: Manager, wanted: dict[str, Brought], present: dict[str, PackageEntry]) -> dict[str, Difference]:
    """By package that is there with other files than were installed: which those are."""
    changed = manager.changed([present[name] for name in wanted if name in present])
    found = {}
    for name, files in changed.items():
        sentence = f"{_some(files)} of {name} {'were' if len(files) > 1 else 'was'} changed or removed"
        found[name] = Difference(name, sentence, tuple(files))
    return found


def refuse_owned(home: ReleaseHome, target: Release, *, going_back: bool = False) -> None:
    """Raise :class:`HostError` when another release that is live here brings one of the packages of ``target``.

    ``going_back``: what can't be read of another one keeps nobody from the way back.
    """
    wanted = brought(target)
    for name in sorted(os.listdir(home.path.parent)):
        if name != home.name and NAME.fullmatch(name) and (home.path.parent / name).is_dir():
            try:
                other = ReleaseHome(str(home.path.parent), name).live()
            except HostError:
                if not going_back:
                    raise
                continue
            both = sorted(wanted.keys() & brought(other).keys())
            if both:
                raise HostError(f"the package {both[0]} belongs to {name} {other.version if other else ''} here; have one release bring it")


def _listed(found: Sequence[PackageEntry]) -> str:
    return _some([f"{one.name} {one.version}" for one in found])


def _some(words: Sequence[str]) -> str:
    more = [f"{len(words) - _NAMED} more"] if len(words) > _NAMED else []
    return ", ".join([*words[:_NAMED], *more])
