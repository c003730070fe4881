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
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

# Every step imports this file, so what few of them need is imported where it is needed.
# ruff: noqa: PLC0415

NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

INDEX = "application/vnd.tidegate.release.index.v1+json"
_RECORD = "release.json"
# A record is JSON for whoever reads it with jq. The first line says how long each document in it is, so that a host, for which reading is
# most of its work in a short step, finds them as they were archived without reading them as strings first.
_BEGINNING = re.compile(rb'\{"sizes": \[([0-9]{1,9}), ([0-9]{1,9}), ([0-9]{1,9})\],\n"manifest": ')
_CONFIG = b',\n"config": '
_FILE_INDEX = b',\n"file_index": '
_DIRECTORY = 0o755

# Events after which a release is known to be good, and those after which it is not.
_GOOD = ("active", "restored")
_BAD = ("activating", "failed", "backed_out", "removed")
_SWITCHES = ("activating", "started", "active", "failed", "restored", "backed_out")
# What the last of them is when it went to its end; of a release that only started it is not known whether it lasts.
_ENDS = ("started", *_GOOD)

# Bytes that may be read of what is in a home: no more is ever written there, and reading has to end.
_LONGEST_LINE = 64 << 10
_LARGEST_LOG = 64 << 20
_LARGEST_RECORD = 256 << 20
_BEYOND = 1 << 62  # what no size and no time in a package is
_TOKEN = re.compile(rb"\s*([0-9]{1,18})\s*")


class HostError(Exception):
    """Something that keeps this host from doing its step; the message is for a person."""


class Release(NamedTuple):
    """A complete release on this host; ``files`` are the entries of the package's file index."""

    id: str
    name: str
    version: str
    digest: str
    config: dict[str, Any]
    files: list[dict[str, Any]]
    tree: Path


class Texts(NamedTuple):
    """A package's own documents, byte for byte: what the digest of the package, that of the manifest, vouches for."""

    manifest: bytes
    config: bytes
    file_index: bytes

    @classmethod
    def of_record(cls, record: bytes) -> Texts:
        """The documents in a release's record; raises :class:`ValueError` when it has not the form of one."""
        beginning = _BEGINNING.match(record)
        if beginning is None:
            raise ValueError("this is no record")
        manifest, (first, second, third) = beginning.end(), map(int, beginning.groups())
        config = manifest + first + len(_CONFIG)
        index = config + second + len(_FILE_INDEX)
        return cls(record[manifest : manifest + first], record[config : config + second], record[index : index + third])

    def record(self) -> bytes:
        """The record of a release with these documents."""
        sizes = b'{"sizes": [%d, %d, %d],\n"manifest": ' % (len(self.manifest), len(self.config), len(self.file_index))
        return b"".join((sizes, self.manifest, _CONFIG, self.config, _FILE_INDEX, self.file_index, b"}\n"))

    @property
    def digest(self) -> str:
        """The digest of the package whose manifest this is."""
        return _digest(self.manifest)

    def check(self) -> dict[str, Any]:
        """The manifest as a document, once config and index are the ones that it names; raises :class:`HostError`."""
        try:
            manifest: dict[str, Any] = strict_json(self.manifest)
            wanted = {manifest["config"]["digest"]: self.config}
            wanted.update({layer["digest"]: self.file_index for layer in manifest["layers"] if layer["mediaType"] == INDEX})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise HostError(f"the documents of package {self.digest} are malformed; archive it again") from error
        if len(wanted) != 2:
            raise HostError(f"the package {self.digest} has no file index; archive it again")
        for name, blob in wanted.items():
            if _digest(blob) != name:
                raise HostError(f"a document of package {self.digest} is not {name}; verify the DSL")
        return manifest


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


# The sha256 of files by device and inode, for one pass over trees that share them.
Seen = dict[tuple[int, int], Optional[str]]


def intact(path: bytes, entry: Mapping[str, Any], seen: Optional[Seen] = None) -> Optional[os.stat_result]:
    """What ``stat`` says of the regular file at ``path`` if its content is that of ``entry``, else nothing; follows no link."""
    found = open_regular(path)
    if found is None:
        return None
    descriptor, info = found
    try:
        if info.st_size != entry["size"]:
            return None
        if seen is None:
            digest = range_digest(descriptor, 0, info.st_size)
        else:
            inode = (info.st_dev, info.st_ino)
            if inode not in seen:
                seen[inode] = range_digest(descriptor, 0, info.st_size)
            digest = seen[inode]
        return info if digest == entry["sha256"] else None
    finally:
        os.close(descriptor)


def open_regular(path: bytes) -> Optional[tuple[int, os.stat_result]]:
    """The regular file at ``path``, open to be read, and what ``fstat`` says of it; nothing when there is none. Follows no link."""
    try:
        # Not blocking: opening a pipe that somebody put there would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    info = os.fstat(descriptor)
    if stat.S_ISREG(info.st_mode):
        return descriptor, info
    os.close(descriptor)
    return None


def range_digest(descriptor: int, offset: int, size: int) -> Optional[str]:
    """The sha256 of ``size`` bytes of an open file from ``offset`` on, or nothing when there are fewer."""
    block = os.pread(descriptor, min(size, 1 << 20), offset)
    digest = hashlib.sha256(block)
    left = size - len(block)
    while left and block:
        block = os.pread(descriptor, min(left, 1 << 20), offset + size - left)
        digest.update(block)
        left -= len(block)
    return None if left else digest.hexdigest()


def changed_files(release: Release, seen: Optional[Seen] = None) -> list[str]:
    """Paths of ``release`` that are missing, altered or of another kind than the package says."""
    root = os.fsencode(release.tree) + b"/"
    return [entry["path"] for entry in release.files if not as_released(root + entry["path"].encode(), entry, seen)]


def changed_entries(release: Release) -> list[dict[str, Any]]:
    """The entries of ``release`` that have to be made anew: those of :func:`changed_files`, and all below what is no directory of its own.

    The tree itself counts as an entry with an empty path.
    """
    root = os.fsencode(release.tree)
    top = {"path": "", "type": "directory", "mode": _DIRECTORY}
    changed = [] if as_released(root, top) else [top]
    outside: set[str] = set()
    for entry in release.files:
        path = root + b"/" + entry["path"].encode()
        behind = bool(outside) and entry["path"].rpartition("/")[0] in outside
        if behind or not as_released(path, entry):
            changed.append(entry)
            if entry["type"] == "directory" and (behind or os.path.islink(path) or not os.path.isdir(path)):
                outside.add(entry["path"])
    return changed


def as_released(path: bytes, entry: Mapping[str, Any], seen: Optional[Seen] = None) -> bool:
    """Whether what is at ``path`` is what the index says: kind, mode, and content or target."""
    kind = entry["type"]
    try:
        if kind == "file":
            info = intact(path, entry, seen)
            return info is not None and info.st_mode == stat.S_IFREG | entry["mode"]
        if kind == "link":
            return bool(os.readlink(path) == entry["target"].encode())
        return bool(os.lstat(path).st_mode == stat.S_IFDIR | entry["mode"])
    except OSError:
        return False


def extra_files(release: Release) -> list[str]:
    """Paths in the tree that the package does not have: nobody released them.

    The bytecode that Python keeps beside its sources is left out. Raises :class:`OSError` for a directory that can't be read.
    """
    known = {entry["path"].encode() for entry in release.files}
    root = os.fsencode(release.tree)

    def fail(error: OSError) -> None:
        raise error

    extra = []
    for folder, directories, files in os.walk(root, onerror=fail):
        for name in directories + files:
            path = os.path.join(folder, name)
            if path[len(root) + 1 :] not in known and not _is_bytecode(path):
                extra.append(path[len(root) + 1 :].decode(errors="backslashreplace"))
    return sorted(extra)


def _is_bytecode(path: bytes) -> bool:
    """Whether this is Python's cache directory or a compiled file in one, and neither a link nor something else of that name."""
    folder, name = os.path.split(path)
    mode = os.lstat(path).st_mode
    if name == b"__pycache__":
        return stat.S_ISDIR(mode)
    return name.endswith(b".pyc") and os.path.basename(folder) == b"__pycache__" and stat.S_ISREG(mode)


def remove(path: Path) -> None:
    """Remove whatever is at ``path``, if anything; a link goes, what it points at stays."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        from shutil import rmtree

        rmtree(path)


def read_file(path: Path, at_most: int) -> Optional[bytes]:
    """What is in the file at ``path``, nothing when there is none. Raises :class:`HostError` for what is no file, or has more bytes."""
    try:
        # Not blocking: a pipe that somebody put there would be waited for without end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"{path} can't be read ({error.strerror}); move it out of the way and run this again") from None
    with open(descriptor, "rb") as stream:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size > at_most:
            what = f"is larger than {at_most >> 10} KiB" if stat.S_ISREG(info.st_mode) else "is not a file"
            raise HostError(f"{path} {what}; move it out of the way and run this again")
        return stream.read(info.st_size)


def strict_json(text: bytes) -> Any:
    """What JSON says to every reader; raises :class:`ValueError` for a key that is there twice, :class:`RecursionError` for deep nests."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key is there twice")
        return found

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def now_in_utc() -> str:
    """The time by this host's clock as RFC 3339 has it, in milliseconds."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 10**6:03d}+00:00"


def read_json(text: bytes) -> Any:
    """What JSON says, nothing when it is none, nested without end, or could be read in two ways. A number may still be infinite."""
    try:
        return strict_json(text)
    except (ValueError, RecursionError):
        return None


def _is_number(value: object, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < _BEYOND


def _is_command(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)


def is_config(config: Any) -> bool:
    """Whether it has the form of a package's config, so that all that reads it may rely on that."""
    if not isinstance(config, dict) or not isinstance(config.get("health"), list):
        return False
    hooks = config.get("hooks", {})
    if not isinstance(hooks, dict) or not isinstance(config.get("settings", {}), dict) or not isinstance(config.get("user", ""), str):
        return False
    for hook in hooks.values():
        if not isinstance(hook, dict) or not _is_command(hook.get("command")) or not _is_number(hook.get("timeout"), 0):
            return False
    for check in config["health"]:
        if not isinstance(check, dict) or not isinstance(check.get("name"), str) or not _is_number(check.get("timeout"), 0):
            return False
        web, socket, command = check.get("http"), check.get("tcp"), check.get("command")
        good = _is_command(command) or (isinstance(web, dict) and isinstance(web.get("url"), str))
        if not good and not (isinstance(socket, dict) and {"host", "port"} <= socket.keys()):
            return False
    return True


def is_index(files: Any) -> bool:
    """Whether it has the form of a package's file index."""
    # Collected first and looked at all at once, which takes a third of the time that it takes to look at each.
    texts: list[Any] = []
    numbers: list[Any] = [0]
    try:
        for entry in files:
            kind = entry["type"]
            texts.append(entry["path"])
            numbers.append(entry.get("offset", 0))
            if kind == "file":
                texts.append(entry["sha256"])
                numbers += (entry["mode"], entry["size"])
            elif kind == "directory":
                numbers.append(entry["mode"])
            elif kind == "link":
                texts.append(entry["target"])
            else:
                return False
            for size, sha in entry.get("chunks", ()):
                numbers.append(size)
                texts.append(sha)
        whole = "".join(texts)
        whole.encode()
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    counts = set(map(type, numbers)) == {int} and min(numbers) >= 0 and max(numbers) < _BEYOND
    return isinstance(files, list) and counts and "\0" not in whole


def _read_texts(texts: Texts) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Config and file index, parents before what is in them. Raises :class:`HostError` or :class:`ValueError` for what is none."""
    texts.check()
    config, files = strict_json(texts.config), strict_json(texts.file_index)["files"]
    if not is_config(config) or not is_index(files):
        raise ValueError("config or index is none")
    return config, sorted(files, key=lambda entry: str(entry["path"]))


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
        self.output = self.path / "output"
        self.watch = self.path / "watch"
        self._hook = self.path / "hook"
        self._log = self.path / "log.jsonl"
        self._token = self.path / "token"
        self._read: dict[str, Release] = {}
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
            self._end_interrupted_hook()
            yield
        finally:
            os.close(lock)

    # -- hooks -------------------------------------------------------------

    def output_of(self, hook: str) -> Path:
        """The file with the output of a hook, and of the daemons that it left; what was written before that has ``.1`` behind its name."""
        return self.output / f"{hook}.log"

    @contextlib.contextmanager
    def running_hook(self, name: str) -> Iterator[str]:
        """Keep a record of a hook while it runs; yields the mark that everything it starts has to carry."""
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
        from .processes import end, marked

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
                    config, files = _read_texts(texts)
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
        places = (self.releases, self.staging, self.state, self.current, self.output, self.watch, self._hook, self._log, self._token)
        own = {path.name for path in places}
        own |= {"lock", ".current.new", ".token.new"}
        found = [name for name in os.listdir(self.path) if name not in own]
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
        self._sync(self.releases)
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

    def flip(self, release: Optional[Release]) -> None:
        """Make ``release`` live in one step; ``None`` takes the link away."""
        if release is None:
            self.current.unlink(missing_ok=True)
        else:
            temporary = self.path / ".current.new"
            remove(temporary)
            temporary.symlink_to(Path("releases") / release.id / "tree")
            temporary.replace(self.current)
        self._sync(self.path)

    # -- log ---------------------------------------------------------------

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
            self._sync(self.path)

    def fence(self, token: int) -> None:
        """Refuse a controller that was superseded: one with a higher token has been here since.

        Tokens rise with every take-over of a deployment and from one deployment to the next. The highest is kept even when
        its controller finds nothing to do: what a lost controller started may still arrive after it.
        """
        text = read_file(self._token, 1 << 10)
        match = _TOKEN.fullmatch(b"0" if text is None else text)
        if match is None:
            raise HostError(f"{self._token} is damaged; remove it once no other controller works on this host")
        highest = int(match.group(1))
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
            self._sync(self.path)

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

    def stable(self) -> Optional[str]:
        """Id of the last release that was active here and has not failed or been backed out since, or nothing."""
        good: list[str] = []
        for event in self.log():
            if event["event"] in _GOOD or event["event"] in _BAD:
                good = [release_id for release_id in good if release_id != event["id"]]
            if event["event"] in _GOOD:
                good.append(event["id"])
        return next((release_id for release_id in reversed(good) if release_id and self.get(release_id)), None)

    def sweep(self, keep: int, protect: Iterable[str], arriving: str) -> list[str]:
        """Remove what is unfinished, except ``arriving``, and the oldest releases beyond ``keep``; return the ids removed.

        What is live, the last stable release, the digests in ``protect`` and the id ``arriving`` always stay, and they count as kept.
        """
        for name in os.listdir(self.staging):
            if name != arriving:
                remove(self.staging / name)
        live = self.live()
        order = {event["id"]: position for position, event in enumerate(self.log())}
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
        return path.is_dir() and not path.is_symlink()

    @staticmethod
    def _sync(folder: Path) -> None:
        descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
