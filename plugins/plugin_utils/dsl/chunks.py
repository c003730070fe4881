# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Content-defined chunks of large files, so that a host which has most of a file receives the rest of it alone.

Where a chunk ends depends on the bytes around its end and on nothing else: what comes before it may grow or shrink. The sizes below are
part of the package format, in so far as a release archived again has to get the same chunks.
"""

from __future__ import annotations

import contextlib
import hashlib

with contextlib.suppress(ImportError):
    import pyfastcdc

_SMALLEST = 16 << 10  # bytes
_AVERAGE = 64 << 10
LARGE = 256 << 10
"""Bytes: a file above this has chunks, and no chunk is above it."""

_WINDOW = 4 << 20


class Chunker:
    """Cuts what :meth:`update` is given, bit by bit; the result does not depend on where those bits end."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._chunks: list[tuple[int, str]] = []
        self._cutter = pyfastcdc.FastCDC(avg_size=_AVERAGE, min_size=_SMALLEST, max_size=LARGE)

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._buffer += data
        if len(self._buffer) >= _WINDOW:
            self._cut(len(self._buffer) - LARGE)

    def chunks(self) -> tuple[tuple[int, str], ...]:
        """Length and sha256 of each chunk, in order, now that there are no more bytes."""
        self._cut(len(self._buffer))
        return tuple(self._chunks)

    def _cut(self, until: int) -> None:
        """Cut off the chunks that start before ``until``: further on, the end of the buffer could pass for the end of a chunk."""
        end = 0
        for chunk in self._cutter.cut_buf(bytes(self._buffer)):
            if chunk.offset > until:
                break
            end = chunk.offset + chunk.length
            self._chunks.append((chunk.length, hashlib.sha256(chunk.data).hexdigest()))
        del self._buffer[:end]
