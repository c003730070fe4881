# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts of an Ansible inventory are as CIs, what of them is not taken, and which are gone."""

from __future__ import annotations

import hashlib
import json
import keyword
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..cmdb.ci_changes import WORDS, PutResult
from ..cmdb.hosts import says_how_to_connect
from ..errors import DocumentError, Problem

GROUPS = "inventory_groups"
"""The attribute with the names of a host's groups; that a CI has it says that it was imported."""
BROUGHT = "inventory_variables"
"""The attribute with the names of the attributes that an import brought, each with a mark of its value: what people set is not touched."""

# In the name of a variable; a community is what SNMP has for a password, and whoever has a webhook's address may use it.
_SECRET = re.compile(r"pass|pwd|pw$|pw[_\d]|kennwort|psk|secret|token|key|cred|auth|cookie|jwt|dsn|community|webhook|pin$", re.IGNORECASE)
_PATH = re.compile("_(file|path|dir|directory)$")  # of a variable that says where a secret is, and not what
_PRIVATE_KEY = re.compile("-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----")
_LOGIN = re.compile(r"://[^/@\s:]*:[^@\s]+@|https?://[^/@\s]+@")  # in an address, who logs in there and how; alone it is a token
# In a text, as of options, addresses and headers; or all that it is, when that is a password as crypt(5) has it.
_GIVEN = re.compile(
    r"(?:pass(?:word|wd|phrase|code)?|pw|pwd|secret|token|key|\bsig|authorization)[\"']?\s*[=:]\s*\S|\bbearer\s+\S{16}|^\$\w+\$\S",
    re.IGNORECASE,
)
_TEMPLATE = re.compile(r"\{\{|\{%")
_NAMED = 10  # hosts that a line names
_SET = "somebody has set another value in the CMDB"
_REMEDIES = {_SET: "take that away with tidegate.release.cmdb_ci to have the inventory's"}
_REMEDY = "keep it in group_vars or host_vars"


@dataclass(frozen=True)
class InventoryHost:
    """A host as the inventory's sources have it: its groups, sorted, its variables, and the names of those that are in a vault."""

    name: str
    groups: tuple[str, ...]
    variables: Mapping[str, Any]
    vaulted: frozenset[str] = frozenset()


@dataclass
class Import:
    """Rows for the CMDB, by host the variables that are not taken, each with the reason, by host the attributes that are taken away, as the
    inventory does not have them any more, and the CIs that are gone."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    not_taken: dict[str, dict[str, str]] = field(default_factory=dict)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)


def plan_import(hosts: Sequence[InventoryHost], known: Sequence[Mapping[str, Any]], words: Mapping[str, Collection[str]]) -> Import:
    """What importing ``hosts`` into a CMDB with the CIs ``known`` comes to.

    ``words``: by class, site and environment, the groups that are one. Raises :class:`DocumentError` for a group that no host is in, and
    for a host that is in two groups of a kind.
    """
    found = Import()
    attributes = {ci["name"]: ci["attributes"] for ci in known}
    there = {group for host in hosts for group in host.groups}
    problems = [
        Problem(f"the group {group}", f"no host is in it, so it is no {word}", "correct its name, or leave it out")
        for word in WORDS
        for group in words.get(word, ())
        if group not in there
    ]
    for host in hosts:
        taken, left = _attributes(host)
        merged, dropped = _merged(attributes.get(host.name, {}), taken, left)
        if left:
            found.not_taken[host.name] = dict(sorted(left.items()))
        if dropped:
            found.dropped[host.name] = dropped
        row = {"name": host.name, "attributes": {**merged, GROUPS: list(host.groups)}}
        for word in WORDS:
            named = [group for group in words.get(word, ()) if group in host.groups]
            if len(named) > 1:
                problems.append(
                    Problem(host.name, f"it is in {' and '.join(named)}, and has one {word}", f"name groups of one {word} each")
                )
            if named:
                row[word] = named[0]
        found.rows.append(row)
    if problems:
        raise DocumentError(problems)
    names = {host.name for host in hosts}
    found.gone = sorted(name for name, had in attributes.items() if GROUPS in had and name not in names)
    return found


def describe_import(found: Import, put: PutResult, dry_run: bool) -> str:
    """What was done, or would be: the first line sums it up, each of the others is about one thing that somebody should look at."""
    would = "would be " if dry_run else ""
    counts = [f"{len(names)} {would}{what}" for names, what in ((put.created, "entered"), (put.updated, "changed")) if names]
    if put.unchanged:
        counts.append(f"{len(put.unchanged)} as before")
    lines = [f"hosts of the inventory in the CMDB: {', '.join(counts)}"]
    reasons: dict[tuple[str, str], list[str]] = {}
    for host, left in found.not_taken.items():
        for name, why in left.items():
            reasons.setdefault((name, why), []).append(host)
    lines += [
        f"{name} was not taken, for {why}: {_listed(hosts)}; {_REMEDIES.get(why, _REMEDY)}"
        for (name, why), hosts in sorted(reasons.items())
    ]
    away: dict[str, list[str]] = {}
    for host, names in found.dropped.items():
        for name in names:
            away.setdefault(name, []).append(host)
    lines += [
        f"{name} {would or 'was '}taken away, for it is not to come from the inventory any more: {_listed(away[name])}"
        for name in sorted(away)
    ]
    if reaching := sorted({name for row in found.rows for name in row["attributes"] if says_how_to_connect(name)}):
        lines.append(
            f"{', '.join(reaching)}: says how Ansible connects, so it is a variable of a host only where the inventory file of the CMDB "
            "lists it in connection_variables"
        )
    if found.gone:
        lines.append(f"not in the inventory any more: {_listed(found.gone)}; remove what is really gone with tidegate.release.cmdb_ci")
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _attributes(host: InventoryHost) -> tuple[dict[str, Any], dict[str, str]]:
    """The host's variables that become attributes, and of the others why they don't."""
    taken: dict[str, Any] = {}
    left = dict.fromkeys(host.vaulted, "it is in a vault")
    for name, value in host.variables.items():
        if reason := _refusal(name, value):
            left[name] = reason
        else:
            taken[name] = value
    return taken, left


def _merged(had: Mapping[str, Any], taken: Mapping[str, Any], left: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The attributes of a CI that ``had`` others, with those that are ``taken``; and the names of those that go.

    What somebody else has set stays; ``left`` gets its name when the inventory has another value.
    """
    before = had.get(BROUGHT)
    marks = before if isinstance(before, Mapping) else {}
    own = {name for name, mark in marks.items() if name in had and _mark(had[name]) == mark}
    dropped = sorted(own - taken.keys())
    merged = {name: value for name, value in had.items() if name not in dropped}
    brought = {}
    for name, value in taken.items():
        if name not in had or name in own:
            merged[name], brought[name] = value, _mark(value)
        elif _mark(had[name]) != _mark(value):
            left[name] = _SET
    return {**merged, BROUGHT: brought}, dropped


def _mark(value: object) -> str:
    """What a value that JSON can hold is known by."""
    plain = json.loads(json.dumps(value))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _refusal(name: str, value: object) -> str:
    if name in ("tidegate_ci", GROUPS, BROUGHT) or not name.isascii() or not name.isidentifier() or keyword.iskeyword(name):
        return "it can't be an attribute of a CI"
    if _names_secret(name) or _has_secret(value):
        return "it looks like a secret"
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return "the CMDB can't hold its value"
    return "it is a template" if _TEMPLATE.search(text) else ""


def _names_secret(name: str) -> bool:
    return bool(_SECRET.search(name)) and not _PATH.search(name)


def _has_secret(value: object) -> bool:
    if isinstance(value, Mapping):
        named = _names_secret(str(value.get("name")))  # with its value beside it, as variables of an environment are listed
        return named or any(_names_secret(str(key)) or _has_secret(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return any(_has_secret(part) for part in value)
    return isinstance(value, str) and any(pattern.search(value) for pattern in (_LOGIN, _PRIVATE_KEY, _GIVEN))
