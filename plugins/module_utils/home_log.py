# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a release's home: what happened there, and what that says of the release that is live."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from .release_files import read_file, remove, sync_folder
from .release_record import Release, read_json

PART = re.compile(r"log\.jsonl\.[1-9][0-9]{0,8}")
"""The names of what the log was before it became too long."""

# Events after which a release is known to be good, and those after which it is not.
_GOOD = ("active", "restored")
_BAD = ("activating", "failed", "backed_out", "removed")
_SWITCHES = ("activating", "started", "active", "failed", "restored", "backed_out")
# What the last of them is when it went to its end; of a release that only started it is not known whether it lasts.
_ENDS = ("started", *_GOOD)

# Bytes that may be read of what is in a home: no more is ever written there, and reading has to end.
_LONGEST_LINE = 64 << 10
_LARGEST_LOG = 64 << 20

LIMIT = 64 << 10
"""Bytes of a log from which on it goes on in a new file: each step reads all of the newest one."""
_SUMMARY = "summary"


def now_in_utc() -> str:
    """The time by this host's clock as RFC 3339 has it, in milliseconds."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 10**6:03d}+00:00"


_IDS = ("repaired", "good", "order")


class History:
    """What the events of a log say in the end, taken one after the other: all that anybody asks of it."""

    def __init__(self) -> None:
        self.switched = False
        """Whether there was a switch, or what may have been one."""
        self.last: Optional[tuple[str, Optional[str]]] = None
        """The last switch and its release; ``None`` when a line that can't be read came later, which may have been about another one."""
        self.repaired: dict[Optional[str], None] = {}
        """The releases that were put right since."""
        self.passed: dict[str, Any] = {}
        """Which health checks of a release passed before it became the first one here, by its id."""
        self.good: dict[Optional[str], None] = {}
        """The releases that were active here and have not failed, been backed out or removed since, the latest one last."""
        self.order: dict[Optional[str], None] = {}
        """Every release that the log speaks of and that was not removed since, the one of the latest event last."""
        self.unconfirmed: Optional[list[str]] = None
        """The deployment whose release the host has left by itself, as nobody confirmed it, and when; until there is another switch."""
        self.runs: dict[str, tuple[dict[int, str], str]] = {}
        """By release that is live: the processes that ran of it once it was found well, by start time, and the boot that they are of."""

    def add(self, event: Optional[dict[str, Any]]) -> None:
        """Take one more event; ``None`` for a line that can't be read."""
        if event is None:
            self.switched, self.last, self.repaired = True, None, {}
            return
        kind, release_id = event["event"], event["id"]
        if kind in _SWITCHES:
            self.switched, self.last, self.repaired = True, (kind, release_id), {}
            self.runs = _runs_of(event) if kind == "active" else {}
        elif kind == "repair":
            self.repaired[release_id] = None
        if kind in _GOOD or kind in _BAD:
            self.good.pop(release_id, None)
        if kind in _GOOD:
            self.good[release_id] = None
        if kind in _SWITCHES and kind != "restored":
            told = kind == "failed" and event.get("unconfirmed") is True
            self.unconfirmed = [str(event.get("deployment")), str(event.get("at"))] if told else None
        if kind == "restored" and release_id is None:
            self.passed = {}
        if release_id is None:
            return
        if kind == "activating" and self.passed.get(release_id) is None:
            self.passed[release_id] = event.get("passed")
        self.order.pop(release_id, None)
        if kind != "removed":
            self.order[release_id] = None

    def summary(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        passed = {release_id: checks for release_id, checks in self.passed.items() if checks is not None}
        ids = {key: list(getattr(self, key)) for key in _IDS}
        last = list(self.last) if self.last else None
        runs = {release_id: {"runs": sorted(map(list, known.items())), "boot": boot} for release_id, (known, boot) in self.runs.items()}
        return {"switched": self.switched, "last": last, "passed": passed, "unconfirmed": self.unconfirmed, "runs": runs, **ids}

    @classmethod
    def of_summary(cls, summary: Any) -> Optional[History]:
        """What :meth:`summary` made; nothing when it is something else."""
        history = cls()
        summary = {"unconfirmed": None, "runs": {}, **summary} if isinstance(summary, dict) else {}  # which older ones have not
        if summary.keys() != vars(history).keys():
            return None
        last, passed, unconfirmed = summary["last"], summary["passed"], summary["unconfirmed"]
        ids = [summary[key] for key in _IDS] + ([last[1:]] if isinstance(last, list) else []) + [unconfirmed or []]
        if not all(isinstance(one, list) and all(each is None or isinstance(each, str) for each in one) for one in ids):
            return None
        if not isinstance(summary["switched"], bool) or not isinstance(passed, dict):
            return None
        if last is not None:
            if not isinstance(last, list) or len(last) != 2 or not isinstance(last[0], str):
                return None
            history.last = last[0], last[1]
        if unconfirmed is not None and (len(unconfirmed) != 2 or None in unconfirmed):
            return None
        history.switched, history.passed, history.unconfirmed = summary["switched"], passed, unconfirmed
        history.repaired, history.good, history.order = (dict.fromkeys(summary[key]) for key in _IDS)
        for release_id, seen in summary["runs"].items() if isinstance(summary["runs"], dict) else ():
            history.runs.update(_runs_of({"id": release_id, **seen}) if isinstance(seen, dict) else {})
        return history


def _runs_of(event: Mapping[str, Any]) -> dict[str, tuple[dict[int, str], str]]:
    """What an event says of the processes that ran of its release; nothing when it says none, or something else."""
    release_id, runs, boot = event["id"], event.get("runs"), event.get("boot")
    if not isinstance(release_id, str) or not isinstance(boot, str) or not isinstance(runs, list):
        return {}
    pairs = [one for one in runs if isinstance(one, list) and len(one) == 2 and isinstance(one[0], int) and isinstance(one[1], str)]
    return {release_id: ({int(pid): str(moment) for pid, moment in pairs}, boot)} if pairs else {}


class HomeLog:
    """The log in a release's home, the directory ``path``.

    When it has become long, it goes on in a new file that begins with what the lines so far say, its summary; what there was stays beside
    it as ``log.jsonl.1`` and so on, for people. So a step reads as much after ten years as after a month, and since the summary is a line
    of the log, there is nothing that could be older than the log or say something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = path / "log.jsonl"

    def history(self) -> History:
        """What the log says. A last line cut short by a crash is left out: what it said had not happened yet."""
        return self._history_of(read_file(self._log, _LARGEST_LOG) or b"")

    def _history_of(self, text: bytes) -> History:
        *lines, unfinished = text.split(b"\n")
        history = History()
        for number, line in enumerate(lines):
            if line.strip():
                event = self._event(line)
                if number == 0 and event is not None and event["event"] == _SUMMARY:
                    summarised = History.of_summary(event.get("history"))
                    if summarised is not None:
                        history = summarised
                        continue
                    event = None
                history.add(event)
        last = self._event(unfinished)
        if last is not None:
            history.add(last)
        return history

    @staticmethod
    def _event(line: bytes) -> Optional[dict[str, Any]]:
        event = read_json(line) if len(line) <= _LONGEST_LINE else None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str) or "id" not in event:
            return None
        return event if event["id"] is None or isinstance(event["id"], str) else None

    def append(self, event: str, release_id: Optional[str], **data: Any) -> None:
        """Write one event to the log, to stay. ``release_id`` is ``None`` when it is about having no release."""
        log = os.open(self._log, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            size = os.lseek(log, 0, os.SEEK_END)
            torn = size > 0 and os.pread(log, 1, size - 1) != b"\n"
            text = (b"\n" if torn else b"") + _line(event, release_id, data)
            while text:
                text = text[os.write(log, text) :]
            os.fsync(log)
        finally:
            os.close(log)
        if size == 0:  # it may be new
            sync_folder(self.path)

    def roll(self) -> None:
        """Let a log that has become long go on in a new file; nobody else may be at it.

        It has its name at every moment, with the lines so far or with what they say. When that can't be done, the log goes on as it is.
        """
        try:
            size = os.lstat(self._log).st_size
        except OSError:
            return
        if size <= LIMIT:
            return
        text = read_file(self._log, _LARGEST_LOG) or b""
        if not text.endswith(b"\n"):  # the end of this line is for the next event to say
            return
        summary = self._history_of(text).summary()
        beginning = _line(_SUMMARY, None, {"history": summary})
        if len(beginning) > LIMIT // 2 or self._history_of(beginning).summary() != summary:
            return
        with contextlib.suppress(OSError):
            temporary = self.path / ".log.new"
            remove(temporary)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(beginning)
                stream.flush()
                os.fsync(stream.fileno())
            self._keep()
            temporary.replace(self._log)
            sync_folder(self.path)

    def _keep(self) -> None:
        """Give the log a second name, behind those of the ones before it."""
        numbers = sorted(int(name[len(self._log.name) + 1 :]) for name in os.listdir(self.path) if PART.fullmatch(name))
        if numbers and os.path.samestat(os.lstat(self._part(numbers[-1])), os.lstat(self._log)):
            return  # somebody was killed right behind this
        os.link(self._log, self._part(numbers[-1] + 1 if numbers else 1), follow_symlinks=False)

    def _part(self, number: int) -> Path:
        return self._log.with_name(f"{self._log.name}.{number}")

    def at_rest(self, release: Optional[Release]) -> bool:
        """Whether the last switch ended well with ``release`` (``None``: with none) as the live one, and it was not put right since.

        A line that can't be read may have been about a later switch, so behind the last good one it makes that uncertain.
        """
        wanted, history = release.id if release else None, self.history()
        if wanted in history.repaired:
            return False
        if not history.switched:
            return release is None
        return history.last is not None and history.last[0] in _ENDS and history.last[1] == wanted

    def passed_before(self, release_id: str) -> Optional[list[int]]:
        """Which health checks of a release passed before it became the first one here, by their position; nothing if the log is silent."""
        passed = self.history().passed.get(release_id)
        return passed if isinstance(passed, list) else None

    def unconfirmed(self, deployment: str) -> str:
        """When the host has left a deployment's release by itself, as nobody confirmed it; empty when it has not, or was switched since."""
        found = self.history().unconfirmed
        return found[1] if found is not None and found[0] == deployment else ""

    def good(self) -> list[Optional[str]]:
        """The ids of the releases that were active here and have not failed or been backed out since, the latest one last."""
        return list(self.history().good)


def _line(event: str, release_id: Optional[str], data: Mapping[str, Any]) -> bytes:
    return json.dumps({"at": now_in_utc(), "event": event, "id": release_id, **data}, sort_keys=True).encode() + b"\n"
