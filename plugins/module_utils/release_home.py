# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One release's home on a managed host: its trees, the link to the live one, its log and its lock.

The layout is described in docs/architecture.md. Only this file knows where things are.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

# Events after which a release is known to be good, and those after which it is not.
_GOOD = ("active", "restored")
_BAD = ("activating", "failed", "backed_out", "removed")


class HostError(Exception):
    """Something that keeps this host from doing its step; the message is for a person."""


@dataclass(frozen=True)
class Release:
    """A complete release on this host; ``files`` are the entries of the package's file index."""

    id: str
    name: str
    version: str
    digest: str
    config: dict[str, Any]
    files: list[dict[str, Any]]
    tree: Path


def sha256_file(path: Path) -> str:
    """Hex sha256 of a regular file; a symbolic link at ``path`` is not followed."""
    digest = hashlib.sha256()
    with open(os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def changed_files(release: Release) -> list[str]:
    """Paths of ``release`` that are missing, altered or of another kind than the package says."""
    wrong = []
    for entry in release.files:
        path = release.tree / entry["path"]
        try:
            info = path.lstat()
            if entry["type"] == "directory":
                good = stat.S_ISDIR(info.st_mode)
            elif entry["type"] == "link":
                good = stat.S_ISLNK(info.st_mode) and os.readlink(path) == entry["target"]
            else:
                good = (
                    stat.S_ISREG(info.st_mode)
                    and stat.S_IMODE(info.st_mode) == entry["mode"]
                    and info.st_size == entry["size"]
                    and sha256_file(path) == entry["sha256"]
                )
        except OSError:
            good = False
        if not good:
            wrong.append(entry["path"])
    return wrong


def extra_files(release: Release) -> list[str]:
    """Paths in the tree that the package does not have: nobody released them."""
    known = {entry["path"] for entry in release.files}
    extra = []
    for folder, directories, files in os.walk(release.tree):
        for name in directories + files:
            path = os.path.relpath(os.path.join(folder, name), release.tree)
            if path not in known and "__pycache__" not in path.split(os.sep):
                extra.append(path)
    return sorted(extra)


class ReleaseHome:
    """``<root>/<name>`` on a managed host."""

    def __init__(self, root: str, name: str) -> None:
        if not NAME.fullmatch(name):
            raise HostError(f"{name!r} is not a release name")
        if not os.path.isabs(root):
            raise HostError(f"the root directory {root!r} is not an absolute path")
        self.name = name
        self.path = Path(root) / name
        self.releases = self.path / "releases"
        self.staging = self.path / "staging"
        self.state = self.path / "state"
        self.current = self.path / "current"
        self._log = self.path / "log.jsonl"

    @contextlib.contextmanager
    def locked(self, seconds: float) -> Iterator[None]:
        """Hold this home alone; an operation that a lost controller started may still be under way, so wait for it."""
        for folder in (self.path, self.releases, self.staging, self.state):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if folder.is_symlink():
                raise HostError(f"{folder} is a symbolic link; a release home must be a real directory, remove the link")
        deadline = time.monotonic() + seconds
        with (self.path / "lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise HostError(
                            f"another operation has been holding {self.path} for more than {seconds:g} s; wait for it and run this again"
                        ) from None
                    time.sleep(0.1)
            yield

    # -- releases ----------------------------------------------------------

    @staticmethod
    def id_of(version: str, digest: str) -> str:
        """Directory name of a release: readable, and distinct for distinct packages of one version."""
        if not VERSION.fullmatch(version) or not DIGEST.fullmatch(digest):
            raise HostError(f"{version!r} with {digest!r} does not name a release")
        return f"{version}-{digest[7:19]}"

    def get(self, release_id: str) -> Optional[Release]:
        """The complete release with that id, or nothing."""
        folder = self.releases / release_id
        try:
            record = json.loads((folder / "release.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return Release(
            id=release_id,
            name=self.name,
            version=record["config"]["version"],
            digest=record["digest"],
            config=record["config"],
            files=record["files"],
            tree=folder / "tree",
        )

    def find(self, digest: str) -> Optional[Release]:
        """The complete release that was made from the package ``digest``, or nothing."""
        return next((release for release in self.all() if release.digest == digest), None)

    def all(self) -> list[Release]:
        """Every complete release, by id."""
        if not self.releases.is_dir():
            return []
        found = (self.get(name) for name in sorted(os.listdir(self.releases)))
        return [release for release in found if release is not None]

    def live(self) -> Optional[Release]:
        """The release that ``current`` points at, or nothing; a link elsewhere is an error, somebody else made it."""
        try:
            target = os.readlink(self.current)
        except FileNotFoundError:
            return None
        except OSError:
            raise HostError(f"{self.current} is not a link; move it out of the way and run this again") from None
        parts = Path(target).parts
        release = self.get(parts[1]) if len(parts) == 3 and parts[0] == "releases" and parts[2] == "tree" else None
        if release is None:
            raise HostError(f"{self.current} points at {target!r}, which is not a release; point it at one under {self.releases}")
        return release

    def flip(self, release: Optional[Release]) -> None:
        """Make ``release`` live in one step; ``None`` takes the link away."""
        if release is None:
            self.current.unlink(missing_ok=True)
        else:
            temporary = self.path / ".current.new"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(Path("releases") / release.id / "tree")
            temporary.replace(self.current)
        self._sync(self.path)

    # -- log ---------------------------------------------------------------

    def log(self) -> list[dict[str, Any]]:
        """Every event, oldest first. A last line cut short by a crash is left out: what it said had not happened yet."""
        events = []
        with contextlib.suppress(FileNotFoundError), self._log.open(encoding="utf-8") as stream:
            for line in stream:
                with contextlib.suppress(ValueError):
                    events.append(json.loads(line))
        return events

    def append(self, event: str, release_id: str, **data: Any) -> None:
        """Write one event to the log, to stay."""
        line = {"at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": event, "id": release_id, **data}
        with self._log.open("a+b") as stream:
            torn = stream.tell() > 0 and stream.seek(-1, os.SEEK_END) >= 0 and stream.read(1) != b"\n"
            stream.write((b"\n" if torn else b"") + json.dumps(line, sort_keys=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def fence(self, token: int) -> None:
        """Refuse a controller that was superseded: one with a higher token has worked here since.

        Tokens rise with every take-over of a deployment and from one deployment to the next.
        """
        highest = max((event.get("token", 0) for event in self.log()), default=0)
        if token < highest:
            raise HostError("another controller has taken this deployment over; this run must not touch the host any more")

    def stable(self) -> Optional[str]:
        """Id of the last release that was active here and has not failed or been backed out since, or nothing."""
        good: list[str] = []
        for event in self.log():
            if event["event"] in _GOOD or event["event"] in _BAD:
                good = [release_id for release_id in good if release_id != event["id"]]
            if event["event"] in _GOOD:
                good.append(event["id"])
        return next((release_id for release_id in reversed(good) if self.get(release_id)), None)

    def sweep(self, keep: int, protect: Iterable[str], staging: str) -> list[str]:
        """Remove unfinished trees other than ``staging`` and the oldest releases beyond ``keep``; return the ids removed.

        What is live, the last stable release and the digests in ``protect`` always stay, and they count as kept.
        """
        for name in os.listdir(self.staging):
            if name != staging:
                self._remove(self.staging / name)
        live = self.live()
        order = {event["id"]: position for position, event in enumerate(self.log())}
        releases = sorted(self.all(), key=lambda release: order.get(release.id, -1), reverse=True)
        wanted = {self.stable(), live.id if live else None, staging}
        sacred = [release for release in releases if release.id in wanted or release.digest in set(protect)]
        others = [release for release in releases if release not in sacred]
        removed = []
        for release in others[max(0, keep - len(sacred)) :]:
            self.append("removed", release.id)
            # Renamed first: a half-removed tree must not look like a release.
            doomed = self.staging / f"removed-{release.id}"
            (self.releases / release.id).rename(doomed)
            self._remove(doomed)
            removed.append(release.id)
        return removed

    def _remove(self, path: Path) -> None:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)

    @staticmethod
    def _sync(folder: Path) -> None:
        descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
