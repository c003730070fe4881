# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Content-defined chunks of large files, so that a host which has most of a file receives the rest of it alone.

Where a chunk ends depends on the bytes around its end and on nothing else: what comes before it may grow or shrink. That is FastCDC as of
2020, with normalised chunking of level 1. Its rule and the sizes below are part of the package format, in so far as a release archived
again has to get the same chunks. ``pyfastcdc`` goes by the same rule and is much faster, so it cuts where it is installed; one that cuts a
sample otherwise is not used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator

with contextlib.suppress(ImportError):
    import pyfastcdc

_SMALLEST = 16 << 10  # bytes
_AVERAGE = 64 << 10
LARGE = 256 << 10
"""Bytes: a file above this has chunks, and no chunk is above it."""

_WINDOW = 4 << 20
_SAMPLE = 3 << 16  # bytes that are cut to see whether a library goes by the rule, some chunks

# A chunk ends where these bits of the hash are all zero: the more of them, the rarer. Before the average size it takes more.
_EARLY = 0xD90703537000
_LATE = 0xD90F03530000
_BITS = (1 << 48) - 1  # of the hash, none above is looked at


class Chunker:
    """Cuts what :meth:`update` is given, bit by bit; the result does not depend on where those bits end."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._chunks: list[tuple[int, str]] = []

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
        start, data = 0, bytes(self._buffer)
        for length in _fast_lengths(data) if _is_fast() else _lengths(data):
            if start > until:
                break
            self._chunks.append((length, hashlib.sha256(memoryview(data)[start : start + length]).hexdigest()))
            start += length
        del self._buffer[:start]


@functools.cache
def _is_fast() -> bool:
    """Whether pyfastcdc is there, and cuts a sample by the rule."""
    sample = hashlib.shake_128(b"tidegate").digest(_SAMPLE)
    return "pyfastcdc" in globals() and list(_fast_lengths(sample)) == list(_lengths(sample))


def _fast_lengths(data: bytes) -> Iterator[int]:
    """The length of each chunk of ``data``."""
    for chunk in pyfastcdc.FastCDC(avg_size=_AVERAGE, min_size=_SMALLEST, max_size=LARGE).cut_buf(data):
        yield chunk.length


def _lengths(data: bytes) -> Iterator[int]:
    """The same, by Python alone."""
    start = 0
    while start < len(data):
        length = _length(data[start : start + LARGE])
        yield length
        start += length


def _length(data: bytes) -> int:
    """The length of the first chunk of ``data``, of which no more than :data:`LARGE` matters."""
    if len(data) <= _SMALLEST:
        return len(data)
    end, gear, value = len(data) & ~1, _gear(), 0  # it goes by pairs, so a last odd byte ends nothing
    middle = min(_AVERAGE, end)
    for start, stop, mask in ((_SMALLEST, middle, _EARLY), (middle, end, _LATE)):
        for position, byte in enumerate(data[start:stop], start):
            value = ((value << 1) + gear[byte]) & _BITS
            if not value & mask:
                return position
    return len(data)


@functools.cache
def _gear() -> tuple[int, ...]:
    """What each byte adds to the hash: the first half of the MD5 of 64 bytes of it."""
    return tuple(int.from_bytes(hashlib.md5(bytes([byte]) * 64, usedforsecurity=False).digest()[:8]) for byte in range(256))
