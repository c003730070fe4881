# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A document in a file that a person names, in the form that the name's suffix says, and never over something else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import TidegateError
from ..files import write_atomically

_Document = TypeVar("_Document")
_HEAD = 2048  # bytes by which a file is known


def beginning(page: Path) -> bytes | None:
    """The beginning of a file; ``None`` when it is not there, or can't be read."""
    try:
        with page.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError:  # it is not there, or nothing can be written there either, which says so
        return None


@dataclass(frozen=True)
class DocumentFile(Generic[_Document]):
    """The files that a document can be in. ``what``: how messages call it, such as ``a plan``.

    ``forms``: by suffix, what the beginning of such a file has in it, and what makes its text.
    """

    what: str
    forms: Mapping[str, tuple[tuple[bytes, ...], Callable[[_Document], str]]]

    def check(self, path: Path) -> None:
        """Raise :class:`TidegateError` when it can't be in a file, by its name, by its directory, or as that is something else."""
        if path.suffix not in self.forms:
            raise TidegateError(f"{path} is no name for {self.what}; let it end with {', '.join(self.forms)}")
        if not path.parent.is_dir():
            raise TidegateError(f"{path.parent} is no directory, so nothing is written there; make it, or give another file")
        if path.is_dir():
            raise TidegateError(f"{path} is a directory; give a file for {self.what}")
        found = beginning(path)
        if found and not all(mark in found for mark in self.forms[path.suffix][0]):
            raise TidegateError(f"{path} has something else than {self.what} in it, and is not overwritten; give another file")

    def write(self, document: _Document, path: Path, *, write: bool) -> list[str]:
        """Write a document as its file's suffix says, unless it is there already; return the path if it changes.

        With ``write`` false nothing is written. Raises :class:`TidegateError` as :meth:`check`, and when it can't be written.
        """
        self.check(path)
        return self.put(self.forms[path.suffix][1](document), path, write=write)

    def put(self, text: str, path: Path, *, write: bool) -> list[str]:
        """The same for a text that was made of it."""
        content = text.encode("utf-8", "replace")
        try:
            if path.is_file() and path.read_bytes() == content:
                return []
            if write:
                write_atomically(path, content)
        except OSError as error:
            raise TidegateError(
                f"{self.what} can't be written to {path}: {error.strerror}; give a file in a directory that can be written"
            ) from error
        return [str(path)]
