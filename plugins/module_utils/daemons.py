# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hook leaves running, and whether it still does: a service that is dead need not be waited for."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Optional

_PR_SET_CHILD_SUBREAPER = 36


class Daemons:
    """The processes that are started while this is entered and still run when it is left.

    This process becomes the parent of their orphans, so it learns how they end, whatever sessions they are in. Where that is not possible,
    or nothing was left running because another service manager has it, :meth:`ended` never says so.
    """

    def __init__(self) -> None:
        self._able = _adopt_orphans()
        self._others = _children() if self._able else set()
        self._left = False
        self._how = ""

    def __enter__(self) -> Daemons:
        return self

    def __exit__(self, _kind: Optional[type[BaseException]], _error: Optional[BaseException], _trace: Optional[TracebackType]) -> None:
        # What ended well by now was a helper of the hook and no service.
        self._left = self._able and (self._any_alive() or bool(self._how))

    def ended(self) -> str:
        """How the last of them ended, in words; empty while one still runs and when there were none."""
        if not self._left or self._any_alive():
            return ""
        return f"what the start hook started has ended{self._how or ' with status 0'}"

    def _any_alive(self) -> bool:
        """Collect those that have ended. Again after each, for one that ended may have left children, which are this process's now."""
        while True:
            found = _children() - self._others
            ended = [how for how in map(_collect, found) if how is not None]
            # The reason is more likely in one that failed than in one that ended well.
            self._how = next((how for how in ended if how), self._how)
            if not ended:
                return bool(found)


def _collect(pid: int) -> Optional[str]:
    """How the child ended: nothing said when well, ``None`` while it runs."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return ""
    if not done:
        return None
    if os.WIFSIGNALED(status):
        return f" by signal {os.WTERMSIG(status)}"
    return f" with status {os.WEXITSTATUS(status)}" if os.WEXITSTATUS(status) else ""


def _children() -> set[int]:
    """The processes whose parent this one is."""
    own, found = str(os.getpid()), set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stream:
                    parent = stream.read().rpartition(")")[2].split()[1]
            except (OSError, IndexError):
                continue
            if parent == own:
                found.add(int(name))
    return found


def _adopt_orphans() -> bool:
    """Become the parent of what descends from this process and loses its own; whether the system can do that."""
    try:
        import ctypes  # noqa: PLC0415 - some small installations of Python lack it

        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 and os.path.isdir("/proc/self"))
    except (ImportError, OSError, AttributeError):
        return False
