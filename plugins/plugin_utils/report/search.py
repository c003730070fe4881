# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index that a report's search goes through, cut in pages: each is a list that can be read, and found in, without any script. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_ROOM = 300_000  # bytes of a page's entries as they are shown, about
_AROUND = 150  # bytes around the texts of one
_TITLE = 120  # letters of a title


def search_pages(
    changes: Iterable[Mapping[str, Any]], releases: Iterable[Mapping[str, Any]], hosts: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The pages of the index: changes, releases, then hosts by name, from lists and pages as :mod:`.site` has them."""
    parts: list[list[dict[str, Any]]] = [[]]
    room = _ROOM
    for entry in _entries(changes, releases, hosts):
        size = _AROUND + sum(6 * len(str(text)) if _is_risky(str(text)) else len(str(text).encode()) for text in entry.values())
        if size > room and parts[-1]:
            parts.append([])
            room = _ROOM
        parts[-1].append(entry)
        room -= size
    ranges = [_range(part) for part in parts]
    return {
        f"search/{number}": {"entries": part, "part": number, "parts": ranges} for number, part in enumerate(parts, 1)
    }  # fmt: skip


def _entries(
    changes: Iterable[Mapping[str, Any]], releases: Iterable[Mapping[str, Any]], hosts: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for one in changes:
        title = f"{one['release']} {one['version']}, {one['state']}: {one['title']}"
        yield {"kind": "change", "name": one["number"], "says": title[:_TITLE], "page": one["page"]}
    for one in releases:
        live = ", ".join(f"{each['version']} on {each['hosts']}" for each in one["versions"])
        yield {"kind": "release", "name": one["release"], "says": (live or "live nowhere")[:_TITLE], "page": one["page"]}
    of: dict[str, tuple[str, list[str]]] = {}
    for name, page in hosts.items():
        for entry in page["hosts"]:
            runs = f"{entry['release']} {entry['version']}" if entry["release"] else "nothing"
            of.setdefault(entry["name"], (name, []))[1].append(runs)
    for host in sorted(of, key=_folded):
        name, run = of[host]
        yield {"kind": "host", "name": host, "says": ", ".join(run)[:_TITLE], "page": f"{name}.html#{anchor(host)}"}


def anchor(host: str) -> str:
    """The name of a host's place on its page: what an address can have in it, and no two hosts share."""
    return "host-" + "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else f"~{ord(letter):x}~" for letter in host
    )


def _range(part: Sequence[Mapping[str, Any]]) -> str:
    if not part:
        return ""
    first, last = part[0], part[-1]
    return f"{first['kind']} {first['name']} to {last['kind']} {last['name']}"


def _is_risky(text: str) -> bool:
    """Whether a text becomes longer in a page, where its signs are written as words."""
    return any(sign in text for sign in "<>&\"'")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())
