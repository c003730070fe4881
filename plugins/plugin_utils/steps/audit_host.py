# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit learns of a host besides which files its releases have: what runs, who may change it, what else is there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .audit_changes import Parts, is_moment, moments_of, parts_at

Differ = Callable[..., None]
"""Takes host, release, kind and detail of a difference, and the ``moments`` of its parts."""
Beside = tuple[str, str | None, str, str, Parts]
"""Host, release, kind, detail and the moments of a difference."""
Shown = Callable[[object], str]
"""Makes what came from a host fit to be printed."""

_LISTED = 3  # sentences of a host that a sentence of ours quotes
REMEDIES: Mapping[str, str] = {
    "copies": "find out who put it there and remove it; audit.copies of the policy says where hosts look",
    "infected": "take the host off the network and find out how it got there; then remove it, and deploy there anew",
    "not_running": "find out what ended it, and start it with its start hook, or deploy or back out there, which does",
}


def release_faults(part: Mapping[str, Any], shown: Shown) -> Iterator[str]:
    """What is wrong with what a host says of one release besides its files, after the name of its place."""
    if not _are_texts(part.get("access", [])):
        yield f".access is {shown(part['access'])}"
    if not isinstance(part.get("logged", True), bool):
        yield f".logged is {shown(part['logged'])}"
    if "running" in part and not _are_answers(part["running"], "down", "problem"):
        yield f".running is {shown(part['running'])}"


def compare_running(host: str, entry: Mapping[str, Any], differ: Differ, shown: Shown) -> None:
    """Name what keeps the live release ``entry`` from running, or from being asked, and that its past is not known."""
    name, said = entry["name"], entry.get("running")
    if entry.get("digest") is not None and not entry.get("logged", True):
        detail = f"{name} {entry['version']} is live, but the log of its home does not say since when: log.jsonl was removed or changed"
        differ(host, name, "changed_files", detail, moments=moments_of(entry, "log"))
    if not said or entry.get("digest") is None:
        return
    if said["down"]:
        differ(host, name, "not_running", f"{name} {entry['version']} is live and does not run: {shown(said['down'])}")
    if said["problem"]:
        differ(host, name, "unreadable", f"{name} {entry['version']} is live, and nobody knows whether it runs: {shown(said['problem'])}")


def compare_access(host: str, name: str, part: Mapping[str, Any], differ: Differ, shown: Shown) -> None:
    """Name what others may do to files of a release that is on a host."""
    if said := part.get("access"):
        more = " ..." if said[_LISTED:] else ""
        what = "; ".join(shown(one) for one in said[:_LISTED])
        differ(
            host,
            name,
            "changed_files",
            f"of {name} {part['version']} there is what others may change: {what}{more}",
            moments=moments_of(part, "access"),
        )


@dataclass(frozen=True)
class Copies:
    """What of releases lies elsewhere on a host: sentences, each with the release and since when, and ``problems`` that kept it from
    looking."""

    found: tuple[tuple[str, str, Parts], ...] = ()
    problems: tuple[str, ...] = ()


def read_copies(result: object, shown: Shown) -> Copies | None:
    """The copies in the result of ``release_facts``; ``None`` when it was not asked for any."""
    said = result.get("copies") if isinstance(result, Mapping) else None
    if said is None:
        return None
    if not isinstance(said, Mapping) or not isinstance(said.get("found"), list) or not _are_texts(said.get("problems")):
        return Copies(problems=("its answer is none",))
    problems, found = list(said["problems"]), []
    for one in said["found"]:
        if not _is_copy(one):
            problems.append(f"its answer has {shown(one)}")
            continue
        what = f"{shown(one['release'])} {shown(one['version'])}".strip()
        since = parts_at(one.get("since", ()))
        if one["home"]:
            found.append((one["release"], f"{shown(one['path'])} has releases of {what}, beside the root where they belong", since))
        else:
            files = ", ".join(shown(path) for path in one["files"][:_LISTED])
            many = "1 file" if one["count"] == 1 else f"{one['count']} files"
            found.append((one["release"], f"{shown(one['path'])} has copies of {many} of {what}: {files}", since))
    return Copies(tuple(found), tuple(problems))


def compare_copies(found: Mapping[str, Copies], shown: Shown) -> Iterator[Beside]:
    """What lies where no release belongs."""
    for host, copies in sorted(found.items()):
        for release, sentence, since in copies.found:
            yield host, shown(release), "copies", sentence, since
        for problem in copies.problems:
            yield host, None, "unreadable", f"nobody knows whether it has copies of releases: {shown(problem)}", ()


def compare_scan(results: Mapping[str, object], shown: Shown) -> Iterator[Beside]:
    """What a scan of files that nobody released has found, by the results of ``release_facts``."""
    for host, result in sorted(results.items()):
        said = result.get("scan") if isinstance(result, Mapping) else None
        if said is None:
            continue
        infected, problem = (said.get("infected"), said.get("problem")) if isinstance(said, Mapping) else (None, "")
        keys = ("release", "path", "signature")
        if not isinstance(infected, list) or not isinstance(problem, str) or not all(_are_answers(one, *keys) for one in infected):
            infected, problem = [], "its answer is none"
        for one in infected:
            release, path, signature = (shown(one[key]) for key in keys)
            since = one.get("since")
            moments = parts_at([since if is_moment(since) else None])
            yield host, release, "infected", f"{path} in the home of {release} is {signature}", moments
        if problem:
            yield host, None, "unreadable", f"nobody knows whether files that nobody released are clean: {shown(problem)}", ()


def _is_copy(one: object) -> bool:
    if not isinstance(one, Mapping) or not isinstance(one.get("home"), bool):
        return False
    if not all(isinstance(one.get(key), str) for key in ("path", "release", "version")):
        return False
    since = one.get("since", [])
    if not isinstance(since, list) or not all(map(is_moment, since)):
        return False
    return one["home"] or (isinstance(one.get("count"), int) and _are_texts(one.get("files")))


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_answers(value: object, *keys: str) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in keys)
