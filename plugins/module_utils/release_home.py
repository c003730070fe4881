# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One release's home on a managed host: its trees, the link to the live one, its log and its lock.

The layout is described in docs/host.md. Only this file knows where things are.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Optional

from .home_log import PART, HomeLog
from .release_files import Seen, changed_files, extra_files, read_file, remove, sync_folder
from .release_record import DIGEST, VERSION, HostError, Release, Texts, read_texts

# What a home is used with.
__all__ = ["DIGEST", "NAME", "VERSION", "HostError", "Release", "ReleaseHome", "Seen", "Texts", "changed_files", "extra_files"]

NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_RECORD = "release.json"
_PAGE = 4096
_ROOM = 1 << 18  # bytes that hooks need at least, for what they note and say
_LARGEST_RECORD = 256 << 20  # bytes: reading has to end
_TOKEN = re.compile(rb"\s*([0-9]{1,18})\s*")


def _reserve(stream: BinaryIO) -> None:
    """Have the file system put room aside, or write where it can't."""
    try:
        os.posix_fallocate(stream.fileno(), 0, _ROOM)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        stream.write(os.urandom(_PAGE) * (_ROOM // _PAGE))


class ReleaseHome(HomeLog):
    """``<root>/<name>`` on a managed host."""

    def __init__(self, root: str, name: str) -> None:
        if not NAME.fullmatch(name):
            raise HostError(f"{name!r} is not a release name")
        if not os.path.isabs(root):
            raise HostError(f"the root directory {root!r} is not an absolute path")
        super().__init__(Path(root) / name)
        self.name = name
        self.releases = self.path / "releases"
        self.staging = self.path / "staging"
        self.state = self.path / "state"
        self.current = self.path / "current"
        self.output = self.path / "output"
        self.watch = self.path / "watch"
        self.guard = self.path / "guard"
        self.armed = self.path / "armed"
        self.instant = self.path / "instant"
        self._new_link = self.path / ".current.new"
        self._hook = self.path / "hook"
        self._token = self.path / "token"
        self._read: dict[str, Release] = {}
        self._poised, self._first = "", False
        self._known: Optional[tuple[Texts, dict[str, Any], list[dict[str, Any]]]] = None

    @contextlib.contextmanager
    def locked(self, seconds: float) -> Iterator[None]:
        """Hold this home alone; an operation that a lost controller started may still be under way, so wait for it."""
        umask = os.umask(0o022)
        try:
            # Services read the releases as users of their own; nobody but this one has business in what is unfinished.
            for folder, mode in (
                (self.path, 0o755),
                (self.releases, 0o755),
                (self.state, 0o755),
                (self.staging, 0o700),
                (self.output, 0o700),
            ):
                if folder.is_symlink():
                    raise HostError(f"{folder} is a symbolic link; a release home must be a real directory, remove the link")
                folder.mkdir(mode=mode, parents=True, exist_ok=True)
        finally:
            os.umask(umask)
        deadline = time.monotonic() + seconds
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
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
            self._read = {}
            self.roll()
            self._end_interrupted_hook()
            yield
        finally:
            os.close(lock)

    def require_room(self) -> None:
        """Raise :class:`HostError` when not even small files can be written here: a switch would fail then, and so would the way back."""
        probe = self.path / ".room"
        try:
            probe.unlink(missing_ok=True)
            with open(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                _reserve(stream)
        except OSError as error:
            remedy = "make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend the file system"
            raise HostError(f"nothing can be written to {self.path} ({error.strerror or error}); {remedy}") from None
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)

    # -- hooks -------------------------------------------------------------

    def output_of(self, hook: str) -> Path:
        """The file with the output of a hook, and of the daemons that it left; what was written before that has ``.1`` behind its name."""
        return self.output / f"{hook}.log"

    @contextlib.contextmanager
    def running_hook(self, name: str) -> Iterator[str]:
        """Keep a record of a hook while it runs; yields the mark that everything it starts has to carry."""
        self.go_first(False)
        mark = f"{name}:{os.urandom(8).hex()}"
        with contextlib.suppress(OSError):  # on a full disk the way back is still open
            descriptor = os.open(self._hook, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(descriptor, mark.encode())
            finally:
                os.close(descriptor)
        yield mark
        # Not when it failed: then the next operation makes sure that nothing of it runs.
        self._hook.unlink(missing_ok=True)

    def _end_interrupted_hook(self) -> None:
        """End what is left of a hook that ran when both the operation and the hook's supervisor were killed."""
        try:
            mark = self._hook.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return
        from .processes import end, marked  # noqa: PLC0415 - every step imports this file, and few find such a hook

        left = end(lambda: marked(mark)) if mark else ""
        if left:
            raise HostError(f"a hook of {self.name} that was interrupted still runs: {left}")
        self._hook.unlink(missing_ok=True)

    # -- releases ----------------------------------------------------------

    @staticmethod
    def id_of(version: str, digest: str) -> str:
        """Directory name of a release: readable, and distinct for distinct packages of one version."""
        if not VERSION.fullmatch(version) or not DIGEST.fullmatch(digest):
            raise HostError(f"{version!r} with {digest!r} does not name a release")
        return f"{version}-{digest[7:19]}"

    def get(self, release_id: str) -> Optional[Release]:
        """The complete release with that id, or nothing; what it should be is said by the package's own documents, which are checked."""
        folder = self.releases / release_id
        if not self.has_tree(release_id):
            return None
        if release_id not in self._read:
            try:
                texts = Texts.of_record(read_file(folder / _RECORD, _LARGEST_RECORD) or b"")
                if self._known is None or texts != self._known[0]:
                    config, files = read_texts(texts)
                else:
                    _texts, config, files = self._known
                version, digest = config["version"], texts.digest
                if self.id_of(version, digest) != release_id:
                    return None
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, HostError):
                return None
            self._read[release_id] = Release(release_id, self.name, version, digest, config, files, folder / "tree")
        return self._read[release_id]

    def expect(self, texts: Texts, config: dict[str, Any], files: list[dict[str, Any]]) -> None:
        """What the documents ``texts`` say, found sound: a record with the same texts says it, too, and is not read once more."""
        self._known = texts, config, files

    def has_tree(self, release_id: str) -> bool:
        """Whether there is a tree of that id, whatever is in it or known of it."""
        folder = self.releases / release_id
        return self._is_directory(folder) and self._is_directory(folder / "tree")

    def write_record(self, folder: Path, texts: Texts) -> None:
        """Leave in the directory of a release what the package says of itself."""
        temporary = folder / f".{_RECORD}.new"
        remove(temporary)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as stream:
            stream.write(texts.record())
            os.fchmod(stream.fileno(), 0o644)
            stream.flush()
            os.fsync(stream.fileno())
        if self._is_directory(folder / _RECORD):
            remove(folder / _RECORD)
        temporary.replace(folder / _RECORD)
        self._read.pop(folder.name, None)

    def strangers(self) -> list[str]:
        """What is in this home but was not made here, by its path in it. Raises :class:`OSError` for what can't be read."""
        places = (self.releases, self.staging, self.state, self.current, self.output, self._hook, self._log, self._token)
        own = {path.name for path in (*places, self.watch, self.guard, self.armed, self.instant)}
        own |= {"lock", ".room", ".current.new", ".token.new", ".log.new", ".instant.new"}
        found = [name for name in os.listdir(self.path) if name not in own and not PART.fullmatch(name)]
        for name in os.listdir(self.releases) if self.releases.is_dir() else []:
            if self.get(name) is None:
                found.append(f"releases/{name}")
            else:
                inside = os.listdir(self.releases / name)
                found += [f"releases/{name}/{other}" for other in inside if other not in ("tree", _RECORD, f".{_RECORD}.new")]
        return sorted(name.encode(errors="surrogateescape").decode(errors="backslashreplace") for name in found)

    def find(self, digest: str) -> Optional[Release]:
        """The complete release that was made from the package ``digest``, or nothing."""
        names = os.listdir(self.releases) if self.releases.is_dir() else []
        found = (self.get(name) for name in sorted(names) if name.endswith(f"-{digest[7:19]}"))
        return next((release for release in found if release is not None and release.digest == digest), None)

    def all(self) -> list[Release]:
        """Every complete release, by id."""
        if not self.releases.is_dir():
            return []
        found = (self.get(name) for name in sorted(os.listdir(self.releases)))
        return [release for release in found if release is not None]

    def put(self, unfinished: Path, release_id: str) -> None:
        """Give a complete tree its name, in place of a damaged release or whatever else has it."""
        final = self.releases / release_id
        doomed = self.staging / f"damaged-{release_id}"
        self._read.pop(release_id, None)
        if os.path.lexists(final):
            final.rename(doomed)
        unfinished.rename(final)
        sync_folder(self.releases)
        remove(doomed)

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

    def is_current(self, digest: str) -> bool:
        """Whether ``current`` points at the release of the package ``digest``, complete or not."""
        try:
            return Path(os.readlink(self.current)).parent.name.endswith(f"-{digest[7:19]}")
        except OSError:
            return False

    def poise(self, release: Release) -> None:
        """Make the link that :meth:`flip` to ``release`` needs, so that this only has to give it its name."""
        self._make_link(release)
        self._poised = release.id

    def go_first(self, wanted: bool = True) -> None:
        """Run before whatever else this machine has to do, until the next flip or hook; or as everybody does again."""
        if wanted is not self._first:
            from .processes import go_first  # noqa: PLC0415 - every step imports this file, and few go first

            self._first = wanted
            go_first(wanted)

    def flip(self, release: Optional[Release]) -> None:
        """Make ``release`` live in one step; ``None`` takes the link away."""
        if release is None:
            self.current.unlink(missing_ok=True)
        else:
            if self._poised != release.id:
                self._make_link(release)
            self._new_link.replace(self.current)
        self._poised = ""
        self.go_first(False)
        sync_folder(self.path)

    def _make_link(self, release: Release) -> None:
        remove(self._new_link)
        self._new_link.symlink_to(Path("releases") / release.id / "tree")

    # -- who may change it, and what goes -----------------------------------

    def fence(self, token: int) -> None:
        """Refuse a controller that was superseded: one with a higher token has been here since.

        Tokens rise with every take-over of a deployment and from one deployment to the next. The highest is kept even when
        its controller finds nothing to do: what a lost controller started may still arrive after it.
        """
        highest = self._highest()
        if token < highest:
            raise HostError("another controller has taken this deployment over; this run must not touch the host any more")
        if token > highest:
            temporary = self.path / ".token.new"
            remove(temporary)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
                stream.write(str(token))
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._token)
            sync_folder(self.path)

    def _highest(self) -> int:
        text = read_file(self._token, 1 << 10)
        match = _TOKEN.fullmatch(b"0" if text is None else text)
        if match is None:
            raise HostError(f"{self._token} is damaged; remove it once no other controller works on this host")
        return int(match.group(1))

    def is_superseded(self, token: int) -> bool:
        """Whether a controller with a higher token has been here since."""
        return token < self._highest()

    def stable(self) -> Optional[str]:
        """Id of the last release that was active here and has not failed or been backed out since, or nothing."""
        return next((release_id for release_id in reversed(self.good()) if release_id and self.get(release_id)), None)

    def sweep(self, keep: int, protect: Iterable[str], arriving: str) -> list[str]:
        """Remove what is unfinished, except ``arriving``, and the oldest releases beyond ``keep``; return the ids removed.

        What is live, the last stable release, the digests in ``protect`` and the id ``arriving`` always stay, and they count as kept.
        """
        for name in os.listdir(self.staging):
            if name != arriving:
                remove(self.staging / name)
        live = self.live()
        order = {release_id: position for position, release_id in enumerate(self.history().order)}
        releases = sorted(self.all(), key=lambda release: order.get(release.id, -1), reverse=True)
        wanted = {self.stable(), live.id if live else None, arriving}
        protected = set(protect)
        staying = {release.id for release in releases if release.id in wanted or release.digest in protected} | {arriving}
        others = [release.id for release in releases if release.id not in staying]
        removed = others[max(0, keep - len(staying)) :]
        for release_id in removed:
            self.append("removed", release_id)
            # Renamed first: a half-removed tree must not look like a release.
            doomed = self.staging / f"removed-{release_id}"
            (self.releases / release_id).rename(doomed)
            remove(doomed)
            self._read.pop(release_id, None)
        return removed

    @staticmethod
    def _is_directory(path: Path) -> bool:
        try:
            return stat.S_ISDIR(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # the last one for a name that no file can have
            return False
