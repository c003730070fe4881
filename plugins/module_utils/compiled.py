# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program for the Python that made them: which compiled files are what their sources compile to.

On its standard input it gets a JSON list of pairs, a source's path with its sha256 and a compiled file's path with its optimization. It
prints the position of each that is right, one a line, as soon as it knows. What is wrong with a compiled file may end it.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import resource
import signal
import sys
from importlib.util import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADER = 16  # bytes before the code: the Python's number, flags, and by what the source is known
_LARGEST = 64 << 20
_MEMORY = 1 << 30  # bytes for all of it: what is no code may ask for any number of them
_TIME = 20  # seconds for one file
# Where a piece of code came from, and what is made of other attributes anew each time it is asked for.
_NOT_COMPARED = ("co_filename", "co_lnotab")


def read(path: str) -> bytes:
    """What is in a regular file; follows no link, waits for no pipe."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
        return stream.read(_LARGEST)


def alike(one: Any, other: Any) -> bool:
    """Whether two pieces of code, or constants of them, do the same."""
    if one.__class__ is not other.__class__:  # True and 1 are equal
        return False
    if hasattr(one, "co_code"):
        names = [name for name in dir(one) if name.startswith("co_") and name not in _NOT_COMPARED and not callable(getattr(one, name))]
        return all(alike(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    return bool(one == other) and repr(one) == repr(other)


def is_right(source: str, sha256: str, compiled: str, optimization: int) -> bool:
    """Whether ``compiled`` is what this Python makes of ``source``, if that has the sha256."""
    text, data = read(source), read(compiled)
    if hashlib.sha256(text).hexdigest() != sha256 or data[:4] != MAGIC_NUMBER or int.from_bytes(data[4:8], "little") > 3:
        return False
    wanted = compile(text, source, "exec", dont_inherit=True, optimize=optimization)
    return alike(wanted, marshal.loads(data[_HEADER:]))  # noqa: S302 - it is compared, and not run


def main() -> None:
    """Look at each pair, within limits that end this process."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    for number, ((source, sha256), (compiled, optimization)) in enumerate(json.load(sys.stdin)):
        signal.alarm(_TIME)
        try:
            good = is_right(source, sha256, compiled, optimization)
        except Exception:  # whatever it is, nobody compiled it from this source
            good = False
        if good:
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
