# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages, units, cron files and listeners of hosts against what is on record of them. Pure.

A host says the sha256 of each set, and its entries only when that is not the one on record; so what it says is looked at for that form.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..strict_json import is_text
from .audit_changes import is_moment

SETS: Mapping[str, str] = {"packages": "packages", "units": "units", "cron": "cron files", "listeners": "listeners"}
"""What a host is asked, and what people call it."""
REMEDIES: Mapping[str, str] = {
    f"other_{name}": "find out who changed that, and take it back, or have it approved and put on record with audit_baseline"
    for name in SETS
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RECORDED = 500  # entries that came and went, so that the history has room for them
_LISTED = 5  # entries of each kind that a sentence names
_LENGTH = 120  # characters of an entry that a sentence shows
_MOST = 50_000  # entries of a set
_LONGEST = 8192  # characters of an entry


class OnRecord(Protocol):
    """What of a recorded set is needed here."""

    @property
    def sha256(self) -> str:
        """By which it is known."""

    @property
    def actor(self) -> str:
        """Who put it on record."""

    @property
    def entries(self) -> Mapping[str, str]:
        """What each is, by name."""


@dataclass(frozen=True)
class HostSets:
    """What a host said of its sets: ``sha256`` by name, ``entries`` as far as it said them, and ``problems`` with what it could not say.

    ``since``: by the name of a set and of an entry, the moment since which that is so, in seconds since 1970; of a directory, whose name
    ends with a slash, when something in it last came or went.
    """

    sha256: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    since: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def read_sets(result: object) -> HostSets | None:
    """The sets in the result of ``release_facts``; ``None`` when it was asked for none. What is malformed is a problem of its set."""
    said = result.get("sets") if isinstance(result, Mapping) else None
    if said is None:
        return None
    digests: dict[str, str] = {}
    entries: dict[str, Mapping[str, str]] = {}
    problems: dict[str, str] = {}
    since: dict[str, Mapping[str, float]] = {}
    for name in SETS:
        answer = said.get(name) if isinstance(said, Mapping) else None
        if isinstance(answer, Mapping) and isinstance(answer.get("problem"), str):
            problems[name] = answer["problem"]
        elif not isinstance(answer, Mapping) or not isinstance(answer.get("sha256"), str) or not _SHA256.fullmatch(answer["sha256"]):
            problems[name] = "its answer is none"
        elif ("entries" in answer and not _are_entries(answer["entries"], answer["sha256"])) or not _are_moments(answer.get("since", {})):
            problems[name] = "its answer is not what it says that it is"
        else:
            digests[name], since[name] = answer["sha256"], answer.get("since", {})
            if "entries" in answer:
                entries[name] = answer["entries"]
    return HostSets(digests, entries, problems, since)


def compare_sets(found: Mapping[str, HostSets | None], recorded: Mapping[str, Mapping[str, OnRecord]]) -> Iterator[tuple[str, str, str]]:
    """Host, kind and detail of each set that is not the one on record.

    ``found``: what each host that was seen said; ``recorded``: by host and name. What nobody put on record is no difference.
    """
    for host, sets in sorted(found.items()):
        for name, record in sorted(recorded.get(host, {}).items()):
            what = SETS.get(name, name)
            if sets is None:
                yield host, "unreadable", f"it did not say which {what} it has"
            elif name in sets.problems:
                yield host, "unreadable", f"nobody knows which {what} it has: {sets.problems[name]}"
            elif sets.sha256.get(name) != record.sha256:
                if name in sets.entries:
                    yield (
                        host,
                        f"other_{name}",
                        f"{what}: {_difference(record.entries, sets.entries[name])}, by the record of {record.actor}",
                    )
                else:
                    yield host, "unreadable", f"its {what} are not those on record, and it did not say which they are"


def to_record(record: Mapping[str, str], sets: HostSets | None, name: str) -> dict[str, Any] | None:
    """How a set that is not the one on record can become it: its ``sha256``, what ``came`` and what ``went``; ``None`` for too much."""
    if sets is None or name not in sets.entries:
        return None
    now = sets.entries[name]
    came = {key: now[key] for key in sorted(now) if record.get(key) != now[key]}
    went = sorted(record.keys() - now.keys())
    return {"sha256": sets.sha256[name], "came": came, "went": went} if len(came) + len(went) <= _RECORDED else None


def moments_of_set(record: Mapping[str, str], sets: HostSets | None, name: str) -> list[float | None]:
    """Since when each entry that is not the one on record is so; ``None`` where the host does not say it.

    Of what went from a directory it is known when the nearest one that is there has last changed.
    """
    if sets is None or name not in sets.entries:
        return []
    now, since = sets.entries[name], sets.since.get(name, {})
    came = [since.get(key) for key in now if record.get(key) != now[key]]
    return came + [_since_gone(key, since) for key in record.keys() - now.keys()]


def _since_gone(key: str, since: Mapping[str, float]) -> float | None:
    if key in since or not key.startswith("/"):
        return since.get(key)
    folder = key
    while folder := folder.rpartition("/")[0]:
        if f"{folder}/" in since:
            return since[f"{folder}/"]
    return None


def with_changes(record: Mapping[str, str], found: Mapping[str, Any]) -> dict[str, str] | None:
    """The entries of a set that :func:`to_record` said how to make of those on record; ``None`` when that has become another one."""
    entries = {key: value for key, value in record.items() if key not in found["went"]} | dict(found["came"])
    return entries if digest_of(entries) == found["sha256"] else None


def _difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    came = [f"{name} {now[name]}".strip() for name in sorted(now.keys() - before.keys())]
    went = [f"{name} {before[name]}".strip() for name in sorted(before.keys() - now.keys())]
    other = [f"{name} {before[name]} to {now[name]}" for name in sorted(now.keys() & before.keys()) if now[name] != before[name]]
    parts = (f"{word} {_listed(names)}" for word, names in (("came", came), ("went", went), ("changed", other)) if names)
    return "; ".join(parts) or "another order"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if names[_LISTED:] else ""
    return ", ".join(name if len(name) <= _LENGTH else f"{name[:_LENGTH]}..." for name in names[:_LISTED]) + more


def _are_entries(entries: object, sha256: str) -> bool:
    if not isinstance(entries, Mapping) or len(entries) > _MOST:
        return False
    if not all(is_text(text) and len(text) <= _LONGEST for pair in entries.items() for text in pair):
        return False
    return digest_of(entries) == sha256


def _are_moments(since: object) -> bool:
    return (
        isinstance(since, Mapping)
        and len(since) <= 2 * _MOST
        and all(isinstance(key, str) and is_moment(moment) for key, moment in since.items())
    )


def digest_of(entries: Mapping[str, str]) -> str:
    """The sha256 by which a set is known, as the host makes it."""
    return hashlib.sha256(json.dumps(dict(entries), sort_keys=True, separators=(",", ":")).encode()).hexdigest()
