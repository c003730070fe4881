# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was put beside the packages of a layout since its index was written last: a file for each manifest that something refers to.

An index names what refers to a manifest by a list with a digest, so each new piece would be a new list and a new index, both as large as
everything before it. Here a piece is a line at the end of a file. Whoever writes the index enters these lines in it, for other tools, and
takes the file away; so who reads both reads the file first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import IntegrityError
from ..files import fsync_directory, make_folder, rights
from .descriptors import DIGEST, INDEX_LIMIT, Descriptor, canonical, parse_json

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class RecentReferrers:
    """The files in ``folder``. Who changes one holds the layout's lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, subject: str, descriptor: Descriptor) -> int:
        """Note that a manifest refers to ``subject``, through to the disk; one that is noted is noted once.

        Returns how many bytes are noted of ``subject``. Raises :class:`OSError`.
        """
        make_folder(self._folder)
        path = self._path(subject)
        new = not path.exists()
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _FLAGS, 0o600), "r+b") as stream:
            if new:
                os.fchmod(stream.fileno(), 0o666 & rights(self._folder))
            content = stream.read()
            whole = content.rfind(b"\n") + 1
            if descriptor.digest.encode() in content[:whole]:
                return whole
            stream.truncate(whole)  # of a line that a killed writer began
            line = canonical(descriptor.to_json()) + b"\n"
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            fsync_directory(self._folder)
        return whole + len(line)

    def of(self, subject: str) -> list[Descriptor]:
        """What was noted of ``subject``; raises :class:`IntegrityError` when that can't be read."""
        path = self._path(subject)
        try:
            with open(os.open(path, os.O_RDONLY | _FLAGS), "rb") as stream:
                content = stream.read(INDEX_LIMIT + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise IntegrityError(f"{path} can't be read ({error.strerror}); restore it from a copy of the DSL") from error
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        entries = parse_json(b'{"lines":[%s]}' % b",".join(lines), str(path))["lines"]
        return [Descriptor.from_json(entry, str(path)) for entry in entries]

    def subjects(self) -> list[str]:
        """What something was noted of."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        return sorted(f"sha256:{name}" for name in names if DIGEST.fullmatch(f"sha256:{name}"))

    def forget(self, subjects: Iterable[str]) -> None:
        """Take these files away. Raises :class:`OSError`."""
        for subject in subjects:
            self._path(subject).unlink(missing_ok=True)

    def _path(self, subject: str) -> Path:
        match = DIGEST.fullmatch(subject)
        if match is None:
            raise IntegrityError(f"{subject!r} is not a digest; one is sha256: and 64 hexadecimal digits")
        return self._folder / match[1]
