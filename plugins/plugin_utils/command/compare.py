# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How two packages of a library differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..report.progress import one_line

if TYPE_CHECKING:
    from ..dsl.package import Package

_OF_FILES = ("type", "mode", "size", "target", "sha256")  # the last one is told by words


def differences(one: Package, other: Package) -> Iterator[str]:
    """A line for each thing that differs, as patches have it: ``-`` only the first package has, ``+`` only the second, ``!`` both."""
    yield from _keys("", one.manifest.to_config(), other.manifest.to_config())
    for what, trees in (("payload", (one.files, other.files)), ("role", (one.role, other.role))):
        was, now = ({entry.path: {key: getattr(entry, key) for key in _OF_FILES} for entry in tree} for tree in trees)
        for path in sorted(was.keys() | now.keys()):
            if was.get(path) != now.get(path):
                yield f"{_sign(path, was, now)} {what} {one_line(path)}{_change(was.get(path), now.get(path))}"


def _keys(where: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(was.keys() | now.keys()):
        before, after, place = was.get(key), now.get(key), f"{where}{key}"
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _keys(f"{place}.", before, after)
        else:
            values = " -> ".join(repr(value) for value in ([before] if key in was else []) + ([after] if key in now else []))
            yield f"{_sign(key, was, now)} release.yml {place}: {values}"


def _sign(key: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return "!" if key in was and key in now else "-" if key in was else "+"


def _change(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """What of a file that both have is another."""
    if before is None or after is None:
        return ""
    keys = [key for key in _OF_FILES[:-1] if before[key] != after[key]]
    said = [f"{key} {_value(key, before)} -> {_value(key, after)}" for key in keys]
    return f": {', '.join(said) or 'other content of the same size'}"


def _value(key: str, entry: Mapping[str, Any]) -> str:
    value = entry[key]
    return f"{value:04o}" if key == "mode" and isinstance(value, int) else str(value)
