# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says of releases: which versions are live where, how they came there, and what became of them."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from ..cmdb.schema import schema
from .changes import time_text

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
"""What the name of a release is like that has a page, which has its name."""
_LONGEST = 100  # letters of such a name
_HOSTS = 2000  # that a page names, of all versions together
_VERSIONS = 50  # on a page: those that are live on most hosts
_DEPLOYMENTS = 20


def release_pages(
    connection: sa.Connection, hosts: Iterable[Mapping[str, Any]], deployments: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What there is to say of each release that is live somewhere or has a deployment on a page, by its name.

    ``hosts``: the entries of hosts and releases on them, see :class:`.model.Report`; ``deployments``: pages of deployments.
    """
    live: dict[str, dict[tuple[str, str], list[tuple[str, str | None]]]] = defaultdict(lambda: defaultdict(list))
    for entry in hosts:
        if entry["release"] is not None:
            live[entry["release"]][entry["version"], entry["digest"]].append((entry["name"], entry["site"]))
    of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for deployment in deployments:
        of[deployment["release"]].append(deployment)
    status = _status(connection)
    return {
        name: _page(name, live[name], of[name], status) for name in sorted({*live, *of}) if NAME.fullmatch(name) and len(name) <= _LONGEST
    }


def _page(
    name: str,
    live: Mapping[tuple[str, str], list[tuple[str, str | None]]],
    deployments: list[Mapping[str, Any]],
    status: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Any]:
    newest = {(one["version"], one["digest"]): one["id"] for one in deployments}
    ordered = sorted({*live, *newest}, key=lambda key: (-len(live.get(key, ())), -newest.get(key, 0), key))
    room, versions = _HOSTS, []
    for version, digest in ordered[:_VERSIONS]:
        there = sorted(live.get((version, digest), ()))
        versions.append(
            {
                "version": version,
                "digest": digest,
                "hosts": len(there),
                "names": [host for host, _site in there[: max(0, room)]],
                "sites": sorted({site for _host, site in there if site}),
                "status": status.get((name, version)),
                "package": None,
            }
        )
        room -= len(there)
    kept = ("id", "rfc", "version", "state", "started", "finished")
    return {
        "release": name,
        "hosts": len({host for there in live.values() for host, _site in there}),
        "versions": versions,
        "more_versions": len(ordered[_VERSIONS:]),
        "deployments": [
            {**{key: one[key] for key in kept}, "page": f"deployments/{one['id']}.html"} for one in reversed(deployments[-_DEPLOYMENTS:])
        ],
    }


def _status(connection: sa.Connection) -> dict[tuple[str, str], dict[str, Any]]:
    """What became of releases that are not just archived, by name and version."""
    rows = connection.execute(sa.select(schema().release_status)).mappings()
    return {
        (row["release"], row["version"]): {
            "state": row["state"], "reason": row["reason"], "by": row["actor"], "at": time_text(row["at"])
        }
        for row in rows
    }  # fmt: skip
