# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a release gets on with what is around it: on each CI, between the CIs that depend on one another, and while some have it and
others don't yet. Pure.

A CI *meets* the releases on itself and on the CIs that it depends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ..errors import TidegateError
from ..versions import UnorderedError, fits

Condition = Mapping[str, Any]
_NAMED = 2  # CIs that a line names
_REMEDY = "; enter it in the CMDB"


@dataclass(frozen=True)
class Needs:
    """What a release says of others, as its manifest has it."""

    requires: tuple[Condition, ...] = ()
    conflicts: tuple[Condition, ...] = ()
    packages: frozenset[str] = frozenset()
    """The names of the operating system's packages that it brings."""
    tree: bool = False
    """Whether it has a payload, which is a tree on each of its CIs."""

    def about(self, release: str) -> Needs:
        """The part of it that is about another release."""
        return Needs(
            tuple(one for one in self.requires if one.get("release") == release),
            tuple(one for one in self.conflicts if one.get("release") == release),
        )


@dataclass(frozen=True)
class Deployed:
    """The release that is to be deployed."""

    name: str
    version: str
    digest: str
    needs: Needs = Needs()
    migrates: bool = False  # data that all related CIs share, so that those which have the version before meet what it makes of them

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Installed:
    """What a CI has of a release."""

    version: str
    digest: str


@dataclass(frozen=True)
class Surroundings:
    """What there is before the deployment."""

    scope: Mapping[str, Mapping[str, Any]]
    """The CIs to deploy to, by name, each with ``class`` and ``attributes``."""
    installed: Mapping[str, Mapping[str, Installed]] = field(default_factory=dict)
    """By CI and release, what is on these and on all CIs that are related to them."""
    uses: tuple[tuple[str, str], ...] = ()
    """Pairs of CIs, of which the first depends on the second."""
    needs: Mapping[str, Needs | Exception] = field(default_factory=dict)
    """By digest of a release, what it says of others; the exception that came up where that could not be found out."""


@dataclass(frozen=True)
class Compatibility:
    """How a release gets on with what is around it."""

    faults: tuple[str, ...] = ()
    """What does not get on with what, a line each."""
    unknown: tuple[str, ...] = ()
    """What could not be found out, a line each."""
    order: tuple[tuple[str, str], ...] = ()
    """Pairs of CIs, of which the first has to get the release before the second."""


class _Unknown(Exception):
    """It can't be decided."""


class _Lines:
    """Sentences, each with the CIs that it is true of."""

    def __init__(self) -> None:
        self._cis: dict[str, list[str]] = {}

    def add(self, ci: str, sentence: str) -> None:
        self._cis.setdefault(sentence, []).append(ci)

    def lines(self) -> tuple[str, ...]:
        """A line for each sentence, what concerns most CIs first."""
        found = sorted(((sorted(set(cis)), sentence) for sentence, cis in self._cis.items()), key=lambda one: (-len(one[0]), one))
        return tuple(f"{_listed(cis)}: {sentence}" for cis, sentence in found)


def judge(deployed: Deployed, surroundings: Surroundings) -> Compatibility:
    """Hold the release against every CI in scope as it will be, and everything around them against the release.

    What was wrong before and has nothing to do with the release is not looked at.
    """
    faults, unknown = _Lines(), _Lines()

    def see(ci: str, findings: Iterator[str]) -> None:
        try:
            for sentence in findings:
                faults.add(ci, sentence)
        except (_Unknown, TidegateError) as error:
            unknown.add(ci, str(error))

    checker = _Checker(deployed, surroundings)
    for ci in surroundings.scope:
        for condition in deployed.needs.requires:
            see(ci, checker.required(ci, condition))
        for condition in deployed.needs.conflicts:
            see(ci, checker.conflicting(ci, condition))
        see(ci, checker.left_live(ci))
    for ci, releases in surroundings.installed.items():
        see(ci, checker.sharing(ci))
        for release, installed in releases.items():
            if release != deployed.name or ci not in surroundings.scope:
                see(ci, checker.others(ci, release, installed))
    order: list[tuple[str, str]] = []
    for pair in checker.inside:
        see(pair[0], checker.mixed(*pair, order))
    waiting = _circle(order)
    circle = (f"{waiting} would each have to get {deployed} before the next, so there is no order for them",) if waiting else ()
    return Compatibility((*faults.lines(), *circle), unknown.lines(), tuple(dict.fromkeys(order)))


def with_plan_faults(found: Compatibility, waves: Iterable[Iterable[str]]) -> Compatibility:
    """``found`` with a fault for each pair whose order a plan does not keep: hosts of one wave change in any order."""
    lines = _Lines()
    for first, second in broken_pairs(waves, found.order):
        lines.add(second, f"it gets the release with or before {first} by the plan, and has to get it after")
    return replace(found, faults=(*found.faults, *lines.lines()))


def _circle(order: Iterable[tuple[str, str]]) -> str:
    """The CIs of a circle in ``order``; empty when there is none."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for first, second in order:
        sorter.add(second, first)
    try:
        sorter.prepare()
    except CycleError as error:
        return ", ".join(reversed(error.args[1]))
    return ""


class _Checker:
    """One release and what is around it."""

    def __init__(self, deployed: Deployed, surroundings: Surroundings) -> None:
        self._deployed = deployed
        self._surroundings = surroundings
        self._providers: dict[str, list[str]] = {}
        self._consumers: dict[str, list[str]] = {}
        for consumer, provider in surroundings.uses:
            self._providers.setdefault(consumer, []).append(provider)
            self._consumers.setdefault(provider, []).append(consumer)
        self.inside = [(a, b) for a, b in surroundings.uses if a != b and a in surroundings.scope and b in surroundings.scope]

    def required(self, ci: str, condition: Condition) -> Iterator[str]:
        """Why a CI in scope does not have what the release requires."""
        if "release" in condition:
            yield from self._required_release(ci, condition)
        elif not _holds(self._surroundings.scope[ci], condition):
            yield f"{self._deployed} requires {_words(condition)}, it has {_has(self._surroundings.scope[ci], condition)}"

    def conflicting(self, ci: str, condition: Condition) -> Iterator[str]:
        """Why a CI in scope has what the release conflicts with."""
        if "release" not in condition:
            if _holds(self._surroundings.scope[ci], condition, absent=False):
                yield f"{self._deployed} conflicts with {_words(condition)}, it has {_has(self._surroundings.scope[ci], condition)}"
            return
        release, where = condition["release"], [ci, *self._providers.get(ci, ()), *self._consumers.get(ci, ())]
        for other in where if release != self._deployed.name else where[1:]:
            version = self._after(other, release)
            if version is not None and _fits(version, condition):
                yield f"{self._deployed} conflicts with {_words(condition)}, {_at(ci, other)} has {version}"

    def _required_release(self, ci: str, condition: Condition) -> Iterator[str]:
        release, where = condition["release"], [ci, *self._providers.get(ci, ())]
        own = release == self._deployed.name  # then it only says which versions of itself it gets on with
        found = [(other, version) for other in (where[1:] if own else where) if (version := self._after(other, release)) is not None]
        if not found and not own:
            yield f"{self._deployed} requires {_words(condition)}, which is neither on it nor on a CI that it depends on"
        for other, version in found:
            if not _fits(version, condition):
                yield f"{self._deployed} requires {_words(condition)}, {_at(ci, other)} has {version}"

    def sharing(self, ci: str) -> Iterator[str]:
        """Why the version that a CI has must not meet the data that the release has migrated."""
        new, has = self._deployed, self._surroundings.installed.get(ci, {}).get(self._deployed.name)
        if not new.migrates or has is None or has.digest == new.digest:
            return
        own = new.needs.about(new.name)
        for condition in own.requires:
            if not _fits(has.version, condition):
                yield f"{new} migrates data and requires {_words(condition)}, it has {has.version}"
        for condition in own.conflicts:
            if _fits(has.version, condition):
                yield f"{new} migrates data and conflicts with {_words(condition)}, it has {has.version}"

    def left_live(self, ci: str) -> Iterator[str]:
        """Why a tree of the release would stay live on a CI in scope: the version to be deployed has none to take its place."""
        new, has = self._deployed, self._surroundings.installed.get(ci, {}).get(self._deployed.name)
        if not new.needs.tree and has is not None and has.digest != new.digest and self._needs(new.name, has).tree:
            yield f"{new} has no payload, so the tree of {has.version} would stay live on it, and what runs from that; give {new} a payload"

    def others(self, ci: str, release: str, installed: Installed) -> Iterator[str]:
        """Why another release on a CI in scope, or related to one, does not get on with the release."""
        said = self._needs(release, installed)
        if ci in self._surroundings.scope and (both := sorted(said.packages & self._deployed.needs.packages)):
            yield f"its {release} {installed.version} brings the package {both[0]}, as {self._deployed} does; have one of them bring it"
        needs = said.about(self._deployed.name)
        if not (needs.requires or needs.conflicts):
            return
        met = [one for one in (ci, *self._providers.get(ci, ())) if one in self._surroundings.scope]
        neighbours = [*met, *(one for one in self._consumers.get(ci, ()) if one in self._surroundings.scope)]
        version, what = self._deployed.version, f"{release} {installed.version}"
        for condition in needs.requires:
            if met and not _fits(version, condition):
                yield f"its {what} requires {_words(condition)}, {_at(ci, met[0])} gets {version}"
        for condition in needs.conflicts:
            if neighbours and _fits(version, condition):
                yield f"its {what} conflicts with {_words(condition)}, {_at(ci, neighbours[0])} gets {version}"

    def mixed(self, consumer: str, provider: str, order: list[tuple[str, str]]) -> Iterator[str]:
        """Which of two CIs in scope has to get the release first; why neither may, when that is so."""
        new = self._deployed
        arriving = Installed(new.version, new.digest)
        mine, theirs = (self._surroundings.installed.get(ci, {}).get(new.name) for ci in (consumer, provider))
        if new.digest in (mine and mine.digest, theirs and theirs.digest):
            return  # it is there already, so nothing gets mixed that is not now
        old_meets_new = mine is None or self._get_on(mine, arriving)
        new_meets_old = theirs is None or self._get_on(arriving, theirs)
        if mine and theirs and not old_meets_new and not new_meets_old:
            yield (
                f"it depends on {provider}, and neither may get {new} first: {mine.version} on it does not get on with {new.version} "
                f"there, nor {new.version} on it with {theirs.version} there"
            )
        elif not old_meets_new:
            order.append((consumer, provider))
        elif not new_meets_old:
            order.append((provider, consumer))

    def _get_on(self, consumer: Installed, provider: Installed) -> bool:
        """Whether two versions of the release get on, the first on a CI that depends on that of the second."""
        name = self._deployed.name
        mine, theirs = self._needs(name, consumer).about(name), self._needs(name, provider).about(name)
        return (
            all(_fits(provider.version, condition) for condition in mine.requires)
            and not any(_fits(provider.version, condition) for condition in mine.conflicts)
            and not any(_fits(consumer.version, condition) for condition in theirs.conflicts)
        )

    def _needs(self, release: str, installed: Installed) -> Needs:
        if installed.digest == self._deployed.digest:
            return self._deployed.needs
        found = self._surroundings.needs.get(installed.digest, Needs())
        if isinstance(found, Exception):
            raise _Unknown(f"what {release} {installed.version} requires could not be found out ({found})")
        return found

    def _after(self, ci: str, release: str) -> str | None:
        """The version of a release that a CI has after the deployment."""
        if release == self._deployed.name and ci in self._surroundings.scope:
            return self._deployed.version
        installed = self._surroundings.installed.get(ci, {}).get(release)
        return installed.version if installed else None


def _holds(ci: Mapping[str, Any], condition: Condition, absent: bool = False) -> bool:
    """Whether a CI is or has what a condition says; ``absent`` is what it comes to when it is known to lack it."""
    found = _fact(ci, condition)
    if "ci_class" in condition or "hardware" in condition:
        return found in condition.get("ci_class", condition.get("hardware"))
    return absent if found is None else _fits(str(found), condition)


def _fact(ci: Mapping[str, Any], condition: Condition) -> Any:
    """What the CMDB says of a CI; ``None`` only for a package that it is known not to have. Raises :class:`_Unknown`."""
    attributes = ci["attributes"]
    if "ci_class" in condition:
        if not ci["class"]:
            raise _Unknown(f"its class is not known{_REMEDY}")
        return ci["class"]
    if "hardware" in condition:
        if not isinstance(attributes.get("model"), str):
            raise _Unknown(f"its attribute model is not known{_REMEDY}")
        return attributes["model"]
    kind = "package" if "package" in condition else "firmware"
    name, attribute = condition[kind], {"package": "packages", "firmware": "firmware"}[kind]
    known = attributes.get(attribute)
    if not isinstance(known, Mapping):
        raise _Unknown(f"its attribute {attribute} is not known{_REMEDY}, each with its version by its name")
    if name not in known:
        if kind == "firmware":
            raise _Unknown(f"the version of its firmware {name} is not known{_REMEDY}")
        return None
    if not isinstance(known[name], str):
        raise _Unknown(f"the version of its {kind} {name} is no text{_REMEDY} with quotes")
    return known[name]


def _has(ci: Mapping[str, Any], condition: Condition) -> str:
    found = _fact(ci, condition)
    return "none" if found is None else str(found)


def _fits(version: str, condition: Condition) -> bool:
    try:
        return fits(version, condition.get("versions", ""), condition.get("scheme", ""))
    except UnorderedError as error:
        raise _Unknown(f"{_words(condition)} can't be judged: {error}") from error


def _words(condition: Condition) -> str:
    """A condition, for a person."""
    for kind, what in (("ci_class", "the class"), ("hardware", "the model")):
        if kind in condition:
            return f"{what} {' or '.join(condition[kind])}"
    kind = next(kind for kind in ("release", "package", "firmware") if kind in condition)
    return f"{kind} {condition[kind]}{' ' + condition['versions'] if 'versions' in condition else ''}"


def _at(ci: str, other: str) -> str:
    return "it" if ci == other else other


def _listed(cis: list[str]) -> str:
    more = f" and {len(cis) - _NAMED} more" if len(cis) > _NAMED else ""
    return ", ".join(cis[:_NAMED]) + more


def broken_pairs(waves: Iterable[Iterable[str]], order: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs of ``order`` that a plan does not keep. Hosts that it does not have are done."""
    place = {host: number for number, wave in enumerate(waves) for host in wave}
    return [(first, second) for first, second in order if first in place and second in place and place[first] >= place[second]]
