# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a release's home: what happened there, and what that says of the release that is live."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Optional

from .release_files import read_file, sync_folder
from .release_record import Release, read_json

# Events after which a release is known to be good, and those after which it is not.
_GOOD = ("active", "restored")
_BAD = ("activating", "failed", "backed_out", "removed")
_SWITCHES = ("activating", "started", "active", "failed", "restored", "backed_out")
# What the last of them is when it went to its end; of a release that only started it is not known whether it lasts.
_ENDS = ("started", *_GOOD)

# Bytes that may be read of what is in a home: no more is ever written there, and reading has to end.
_LONGEST_LINE = 64 << 10
_LARGEST_LOG = 64 << 20


def now_in_utc() -> str:
    """The time by this host's clock as RFC 3339 has it, in milliseconds."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 10**6:03d}+00:00"


class HomeLog:
    """The log in a release's home, the directory ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = path / "log.jsonl"

    def log(self) -> list[dict[str, Any]]:
        """Every event that can be read, oldest first. A last line cut short by a crash is left out: what it said had not happened yet."""
        return [event for event in self._events() if event is not None]

    def _events(self) -> list[Optional[dict[str, Any]]]:
        """Every line of the log; ``None`` stands for one that can't be read, though something happened when it was written."""
        *lines, unfinished = (read_file(self._log, _LARGEST_LOG) or b"").split(b"\n")
        events = [self._event(line) for line in lines if line.strip()]
        last = self._event(unfinished)
        return events if last is None else [*events, last]

    @staticmethod
    def _event(line: bytes) -> Optional[dict[str, Any]]:
        event = read_json(line) if len(line) <= _LONGEST_LINE else None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str) or "id" not in event:
            return None
        return event if event["id"] is None or isinstance(event["id"], str) else None

    def append(self, event: str, release_id: Optional[str], **data: Any) -> None:
        """Write one event to the log, to stay. ``release_id`` is ``None`` when it is about having no release."""
        line = {"at": now_in_utc(), "event": event, "id": release_id, **data}
        new = not self._log.exists()
        with open(os.open(self._log, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "a+b") as stream:
            torn = stream.tell() > 0 and stream.seek(-1, os.SEEK_END) >= 0 and stream.read(1) != b"\n"
            stream.write((b"\n" if torn else b"") + json.dumps(line, sort_keys=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            sync_folder(self.path)

    def at_rest(self, release: Optional[Release]) -> bool:
        """Whether the last switch ended well with ``release`` (``None``: with none) as the live one, and it was not put right since.

        A line that can't be read may have been about a later switch, so behind the last good one it makes that uncertain.
        """
        wanted = release.id if release else None
        switches = [
            event
            for event in self._events()
            if event is None or event["event"] in _SWITCHES or (event["event"], event["id"]) == ("repair", wanted)
        ]
        if not switches:
            return release is None
        last = switches[-1]
        return last is not None and last["event"] in _ENDS and last["id"] == wanted

    def passed_before(self, release_id: str) -> Optional[list[int]]:
        """Which health checks of a release passed before it became the first one here, by their position; nothing if the log is silent."""
        passed = None
        for event in self.log():
            if event["event"] == "restored" and event["id"] is None:
                passed = None
            elif event["event"] == "activating" and event["id"] == release_id and passed is None:
                passed = event.get("passed")
        return passed if isinstance(passed, list) else None

    def good(self) -> list[Optional[str]]:
        """The ids of the releases that were active here and have not failed or been backed out since, the latest one last."""
        good: list[Optional[str]] = []
        for event in self.log():
            if event["event"] in _GOOD or event["event"] in _BAD:
                good = [release_id for release_id in good if release_id != event["id"]]
            if event["event"] in _GOOD:
                good.append(event["id"])
        return good
