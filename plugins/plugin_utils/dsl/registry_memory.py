# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found in a registry, so that nothing is asked for twice.

What a digest names is the same for ever, so that is kept for all who ask with the same folder, and checked when it is taken out. What tags
name and lists hold is kept for one look: whoever looks again begins with another memory.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..files import make_folder, write_atomically
from .blobs import read_file

LARGEST = 8 << 20
"""Bytes of what is kept; payloads are not."""
_ROOM = 64 << 20  # bytes that are kept in memory

_T = TypeVar("_T")


class RegistryMemory:
    """``folder``: private to a run, where what digests name is kept for other processes of it; it need not be there."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._contents: dict[tuple[str, str], bytes] = {}
        self._room = _ROOM
        self._answers: dict[str, dict[Any, Any]] = {}
        self.without_referrers = False
        """Whether it was seen that the registry has no referrers API."""

    def content(self, place: str, digest: str) -> bytes | None:
        """What is kept of a digest in a repository, ``None`` when it is not."""
        content = self._contents.get((place, digest))
        if content is None and self._folder is not None:
            with contextlib.suppress(OSError):
                content = read_file(self._path(place, digest), LARGEST)
                if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
                    return None
                self._remember(place, digest, content)
        return content

    def keep(self, place: str, digest: str, content: bytes) -> None:
        """Keep what a digest names, which was checked. What has no room is asked for again."""
        if len(content) <= LARGEST and (place, digest) not in self._contents:
            self._remember(place, digest, content)
            self._write(place, digest, content)

    def once(self, place: str, question: object, ask: Callable[[], _T]) -> _T:
        """What ``ask`` says, which is called when nobody has asked this of the repository yet."""
        answers = self._answers.setdefault(place, {})
        if question not in answers:
            answers[question] = ask()
        found: _T = answers[question]
        return found

    def forget(self, place: str) -> None:
        """Ask all of a repository anew: something was written there."""
        self._answers.pop(place, None)

    def last(self, place: str, tag: str) -> str | None:
        """The digest that a tag had when somebody looked before, maybe long ago."""
        if self._folder is not None:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                return read_file(self._path(place, f"tag {tag}"), LARGEST).decode()
        return None

    def note(self, place: str, tag: str, digest: str) -> None:
        """Note for :meth:`last` what a tag has now."""
        self._write(place, f"tag {tag}", digest.encode())

    def _remember(self, place: str, digest: str, content: bytes) -> None:
        if len(content) <= self._room:
            self._room -= len(content)
            self._contents[place, digest] = content

    def _write(self, place: str, what: str, content: bytes) -> None:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                make_folder(self._folder)
                write_atomically(self._path(place, what), content)

    def _path(self, place: str, what: str) -> Path:
        return (self._folder or Path()) / hashlib.sha256(f"{place}\n{what}".encode()).hexdigest()
