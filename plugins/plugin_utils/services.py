# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients of services over HTTP have in common: how much they take of an answer, and which host is this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from typing import Any

from .errors import TidegateError

_BLOCK = 1 << 16


def take_answer(response: Any, who: str, largest: int, end: float, much: str) -> bytes:
    """The bytes of a streamed answer of ``requests``, as far as it is of a size and comes in a time that an answer can be.

    ``who`` answers; ``much`` ends the sentence about one of more than ``largest`` bytes; ``end`` is by :func:`time.monotonic`. Raises
    :class:`TidegateError` for one that is too large or packed, and :class:`TimeoutError`.
    """
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise TidegateError(f"the answer of {who} is packed, unasked; look at what answers there")
    content = bytearray()
    while block := response.raw.read1(_BLOCK):
        content += block
        if len(content) > largest:
            raise TidegateError(f"{who} sends more than {largest >> 20} MiB{much}")
        if time.monotonic() > end:
            raise TimeoutError
    return bytes(content)


def is_this_machine(host: str) -> bool:
    """Whether a host of a URL is this machine, to which a request needs no TLS."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    return host == "localhost"
