# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is live, what is recorded and what is archived: every difference, each named once. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .licence.seats import Unlicensed

_LISTED = 3  # file names that a sentence quotes


def compare(
    found: Mapping[str, list[dict[str, Any]] | None],
    recorded: Iterable[Mapping[str, Any]],
    archived: Collection[str],
    untrusted: Mapping[str, tuple[str, str]],
    unlicensed: Iterable[Unlicensed] = (),
) -> list[dict[str, Any]]:
    """Compare what hosts run with what the CMDB records and the DSL holds.

    ``found``: host name to the list of ``release_facts`` (``None``: could not be read). ``recorded``: installations with
    ``ci``, ``release``, ``version`` and ``digest``. ``archived``: package digests in the DSL. ``untrusted``: of these, the release and
    why its signatures don't count. ``unlicensed``: installations without the seat that they need. Returns
    ``host``, ``release``, ``kind`` and ``detail`` of each difference, the DSL's own first with no host, then ordered by host.
    """
    wanted = {(str(row["ci"]), str(row["release"])): row for row in recorded}
    seatless = {(one.ci, one.release): one.detail for one in unlicensed}
    differences: list[dict[str, Any]] = []

    def differ(host: str | None, release: str | None, kind: str, detail: str) -> None:
        differences.append({"host": host, "release": release, "kind": kind, "detail": detail})

    for _digest, (release, why) in sorted(untrusted.items(), key=lambda item: item[1]):
        differ(None, release, "untrusted", why)
    for host in sorted(found):
        releases = found[host]
        if releases is None:
            differ(host, None, "unreadable", "it could not be read, so nobody knows what it runs")
            continue
        live = {entry["name"]: entry for entry in releases}
        for name, entry in sorted(live.items()):
            if entry.get("error"):
                differ(host, name, "unreadable", f"{name}: {entry['error']}")
            elif entry["digest"] is not None:
                _compare_live(host, entry, wanted.get((host, name)), archived, differ)
                if entry["digest"] in untrusted:
                    differ(host, name, "untrusted", f"{name} {entry['version']} is live, but {untrusted[entry['digest']][1]}")
            for other in entry.get("others", ()):
                _compare_files(host, name, other, differ)
            strangers = entry.get("strangers")
            if strangers:
                differ(host, name, "extra_files", f"{_quoted(strangers)} beside the releases of {name} came from nobody")
        for (ci, name), row in sorted(wanted.items()):
            if ci == host and (name not in live or (live[name]["digest"] is None and not live[name].get("error"))):
                differ(host, name, "missing", f"the CMDB says {name} {row['version']}, but it is not live")
            if ci == host and (ci, name) in seatless:
                differ(host, name, "unlicensed", seatless[ci, name])
    return differences


def not_compared(written_off: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """A difference, as :func:`compare` has them, for each host that does not answer and was written off (``since``, ``by``, ``reason``)."""
    return [
        {
            "host": host,
            "release": None,
            "kind": "written_off",
            "detail": f"it is written off since {one['since'][:10]}, by {one['by']}: {one['reason']}",
        }
        for host, one in sorted(written_off.items())
    ]


def _compare_live(host: str, entry: Mapping[str, Any], row: Mapping[str, Any] | None, archived: Collection[str], differ: Any) -> None:
    name, version = entry["name"], entry["version"]
    if row is None:
        differ(host, name, "uncontrolled", f"{name} {version} is live, but the CMDB does not know of it")
    elif row["digest"] != entry["digest"]:
        differ(host, name, "other_version", f"{name} {version} is live, but the CMDB says {row['version']}")
    if entry["digest"] not in archived:
        differ(host, name, "not_in_dsl", f"{name} {version} is live, but the DSL does not hold {entry['digest']}")
    _compare_files(host, name, entry, differ)


def _compare_files(host: str, name: str, entry: Mapping[str, Any], differ: Any) -> None:
    for kind, what in (("changed", "were changed or are missing"), ("extra", "were released by nobody")):
        if entry[kind]:
            differ(host, name, f"{kind}_files", f"{len(entry[kind])} files of {name} {entry['version']} {what}: {_quoted(entry[kind])}")


def _quoted(files: list[str]) -> str:
    return ", ".join(files[:_LISTED]) + (" ..." if len(files) > _LISTED else "")
