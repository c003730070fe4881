# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging: build a release's tree beside the running one, out of what the host has and what it lacks.

Nothing here has an effect on what runs. The host trusts one thing, the package digest: manifest, config and file
index are checked against it, and every file against the index.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from .release_home import HostError, ReleaseHome, changed_files, intact, remove

_INDEX = "application/vnd.tidegate.release.index.v1+json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIRECTORY = 0o755
_MODES = {"file": (0o644, 0o755), "directory": (_DIRECTORY,)}
_MARGIN = 16 << 20  # bytes left free on the file system: logs and locks have to go on
_UNLINKABLE = (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP)

# What one inode can serve: a content with a mode.
_Kind = tuple[str, int]


def read_package(digest: str, manifest: bytes, config: bytes, index: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Check the package's documents against ``digest``; return its config and the entries of its file index."""
    if _digest(manifest) != digest:
        raise HostError(f"the package manifest is not {digest}; archive and deploy again")
    try:
        document = json.loads(manifest)
        wanted = {document["config"]["digest"]: config}
        wanted.update({layer["digest"]: index for layer in document["layers"] if layer["mediaType"] == _INDEX})
        if len(wanted) != 2:
            raise HostError(f"the package {digest} has no file index; archive it again")
        for name, blob in wanted.items():
            if _digest(blob) != name:
                raise HostError(f"a document of package {digest} is not {name}; verify the DSL")
        return _read_config(digest, config), _read_index(digest, index)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HostError(f"the documents of package {digest} are malformed; archive it again") from error


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _read_config(digest: str, text: bytes) -> dict[str, Any]:
    """The config, with all that a switch relies on: it would be too late to miss something between stop and start."""
    config: dict[str, Any] = json.loads(text)
    whole = isinstance(config["name"], str) and isinstance(config["version"], str) and config["health"]
    for hook in config.get("hooks", {}).values():
        whole = whole and hook["command"] and hook["timeout"] > 0
    for check in config["health"]:
        whole = whole and check["name"] and check["timeout"] > 0 and {"http", "tcp", "command"} & check.keys()
    if not whole or not isinstance(config.get("settings", {}), dict):
        raise HostError(f"the package {digest} has an incomplete config; archive it again")
    return config


def _read_index(digest: str, text: bytes) -> list[dict[str, Any]]:
    """The entries by path, so that a directory comes before what is in it; all of them stay inside the tree."""
    files: list[dict[str, Any]] = sorted(json.loads(text)["files"], key=lambda entry: str(entry["path"]))
    directories = {""}
    sizes: dict[str, int] = {}
    seen = set()
    for entry in files:
        path, kind = entry["path"], entry["type"]
        parent, _slash, name = path.rpartition("/")
        # A path whose parent is not a directory of this very package could lead out of the tree by way of a link.
        if path.startswith("/") or name in ("", ".", "..") or parent not in directories or path in seen:
            raise HostError(f"the package {digest} has a file with the path {path!r}; archive it again")
        seen.add(path)
        good = _plain(path)
        if kind == "link":
            target = os.path.normpath(os.path.join(parent, entry["target"]))
            good = good and _plain(entry["target"]) and not target.startswith("/") and target.split("/")[0] != ".."
        else:
            good = good and isinstance(entry["mode"], int) and entry["mode"] in _MODES[kind]
        if kind == "directory":
            directories.add(path)
        elif kind == "file":
            good = (
                good
                and isinstance(entry["size"], int)
                and not isinstance(entry["size"], bool)
                and entry["size"] >= 0
                and bool(_SHA256.fullmatch(entry["sha256"]))
            )
            good = good and sizes.setdefault(entry["sha256"], entry["size"]) == entry["size"]
        if not good:
            raise HostError(f"the package {digest} has a bad entry for {path!r}; archive it again")
    return files


def _plain(text: str) -> bool:
    """Whether a file system takes it as a name."""
    return bool(text.encode()) and "\0" not in text


def stage(
    home: ReleaseHome,
    digest: str,
    documents: tuple[bytes, bytes, bytes],
    pack: Optional[Path],
    keep: int,
    protect: Sequence[str],
    token: int,
    deployment: str,
) -> dict[str, Any]:
    """Bring the release ``digest`` completely on this host.

    ``documents`` are manifest, config and file index. ``pack`` holds the contents that the host lacked when it was asked
    without one. Returns ``state`` ``staged``, or ``lacking`` with the sha256s in ``need``; and what is live now.
    """
    config, files = read_package(digest, *documents)
    if config["name"] != home.name:
        raise HostError(f"the package {digest} is {config['name']}, not {home.name}")
    version = config["version"]
    release_id = home.id_of(version, digest)
    live = home.live()
    result: dict[str, Any] = {
        "state": "staged",
        "changed": False,
        "id": release_id,
        "live": {"version": live.version, "digest": live.digest} if live else None,
    }
    home.fence(token)
    existing = home.get(release_id)
    if existing is not None:
        wrong = changed_files(existing)
        if not wrong:
            return result
        if live is not None and live.id == existing.id:
            raise HostError(
                f"{home.name} {version} is live here but {len(wrong)} of its files were changed, {wrong[0]} first; "
                "find out who did it, then deploy another release or remove the change"
            )
    result["removed"] = home.sweep(keep, protect, release_id)

    work = home.staging / release_id
    _keep_contents(work)
    sources = _find_sources(home, files, os.fsencode(work / "contents"))
    sizes = {entry["sha256"]: entry["size"] for entry in files if entry["type"] == "file"}
    lacking = sorted(sha for sha in sizes if sha not in sources.any)
    _check_room(home.staging, files, sources)
    if lacking and pack is None:
        result.update(state="lacking", need=lacking)
        return result
    try:
        with _umask(0o022):
            _build(work, files, sources, lacking, sizes, pack)
            record = {"digest": digest, "config": config, "files": files}
            (work / "release.json").write_text(json.dumps(record, sort_keys=True), encoding="utf-8")
        _flush(work)
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        raise HostError(
            f"can't build {home.name} {version} in {work} ({error.strerror or error}); make room or mend the file system and run this again"
        ) from error
    home.put(work, release_id)
    home.append("staged", release_id, version=version, digest=digest, deployment=deployment, token=token)
    result.update(changed=True, sent=len(lacking), linked=len(sizes) - len(lacking))
    return result


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Services read the tree as users of their own, whatever the umask of the one who stages."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _keep_contents(work: Path) -> None:
    """Remove all that an interrupted staging left but the contents that it had unpacked; room is counted after that."""
    contents = work / "contents"
    if work.is_symlink() or not work.is_dir():
        remove(work)
    else:
        for name in os.listdir(work):
            if name != "contents":
                remove(work / name)
        if contents.is_symlink() or not contents.is_dir():
            remove(contents)
    contents.mkdir(mode=0o700, parents=True, exist_ok=True)


@dataclass(frozen=True)
class _Sources:
    """Where the host has contents already: ``any`` to copy from, ``linkable`` where owner and mode agree too."""

    any: dict[str, bytes]
    linkable: dict[_Kind, bytes]


def _find_sources(home: ReleaseHome, files: list[dict[str, Any]], contents: bytes) -> _Sources:
    """Look for the contents of ``files``: unpacked by an interrupted staging, or in another release.

    Each candidate is hashed before it counts, so a file that somebody edited can't spread into the new release.
    """
    kinds = {(entry["sha256"], entry["mode"]): entry for entry in files if entry["type"] == "file"}
    wanted = {entry["sha256"]: entry for entry in kinds.values()}
    found = _Sources({}, {})
    for name in os.listdir(contents):
        path = os.path.join(contents, name)
        entry = wanted.get(os.fsdecode(name))
        info = intact(path, entry) if entry else None
        if entry is None or info is None or info.st_nlink != 1:
            remove(Path(os.fsdecode(path)))
            continue
        os.chmod(path, entry["mode"])
        found.any[entry["sha256"]] = found.linkable[entry["sha256"], entry["mode"]] = path
    user = os.geteuid()
    for release in home.all():
        tree = os.fsencode(release.tree)
        for entry in release.files:
            if entry["type"] != "file" or entry["sha256"] not in wanted:
                continue
            kind = (entry["sha256"], entry["mode"])
            if kind in found.linkable or (kind not in kinds and kind[0] in found.any):
                continue
            path = os.path.join(tree, entry["path"].encode())
            info = intact(path, entry)
            if info is None:
                continue
            found.any.setdefault(kind[0], path)
            # Linked, the file would have that owner in the new release too, who could change it.
            if kind in kinds and info.st_uid == user and stat.S_IMODE(info.st_mode) == kind[1]:
                found.linkable[kind] = path
    return found


def _check_room(folder: Path, files: list[dict[str, Any]], sources: _Sources) -> None:
    room = os.statvfs(folder)
    block = room.f_frsize
    new = {(entry["sha256"], entry["mode"]): entry["size"] for entry in files if entry["type"] == "file"}
    sizes = [size for kind, size in new.items() if kind not in sources.linkable]
    others = sum(entry["type"] != "file" for entry in files)
    need = _MARGIN + sum(-(-size // block) * block for size in sizes) + others * block
    free = room.f_bavail * block
    if need > free:
        raise HostError(f"{folder} needs {need >> 20} MiB but only {free >> 20} MiB are free; make room and run this again")
    count = len(sizes) + others
    if room.f_files and count > room.f_favail:
        raise HostError(f"{folder} needs {count} inodes but only {room.f_favail} are free; make room and run this again")


def _build(
    work: Path, files: list[dict[str, Any]], sources: _Sources, lacking: list[str], sizes: Mapping[str, int], pack: Optional[Path]
) -> None:
    """Make ``work/tree``: contents that the host has by hard link, the lacking ones out of the pack."""
    work.chmod(_DIRECTORY)  # also takes a set-gid bit away, before the tree inherits it
    contents = work / "contents"
    if pack is not None and lacking:
        _unpack(pack, lacking, sizes, contents)
        sources.any.update({sha: os.fsencode(contents / sha) for sha in lacking})
    fresh = set(lacking)
    tree = os.fsencode(work / "tree")
    os.mkdir(tree, _DIRECTORY)
    for entry in files:
        path = os.path.join(tree, entry["path"].encode())
        if entry["type"] == "directory":
            os.mkdir(path, _DIRECTORY)
        elif entry["type"] == "link":
            os.symlink(entry["target"].encode(), path)
        else:
            sha, mode = kind = (entry["sha256"], entry["mode"])
            if sha in fresh:
                fresh.remove(sha)
                os.chmod(sources.any[sha], mode)
                sources.linkable[kind] = sources.any[sha]
            _place(path, sources.linkable.get(kind), sources.any[sha], mode)
            sources.linkable[kind] = path
    shutil.rmtree(contents)


def _place(path: bytes, linkable: Optional[bytes], source: bytes, mode: int) -> None:
    if linkable is not None:
        try:
            os.link(linkable, path, follow_symlinks=False)
            return
        except OSError as error:
            # Too many links to one inode, another owner, or a file system without hard links.
            if error.errno not in _UNLINKABLE:
                raise
    shutil.copyfile(source, path)
    os.chmod(path, mode)


def _unpack(pack: Path, lacking: list[str], sizes: Mapping[str, int], folder: Path) -> None:
    """Write each lacking content to ``folder``; the pack is their plain concatenation in this order, gzipped."""
    try:
        with gzip.open(pack, "rb") as stream:
            for sha in lacking:
                digest = hashlib.sha256()
                left = sizes[sha]
                with open(os.path.join(folder, sha), "xb") as target:
                    while left:
                        chunk = stream.read(min(left, 1 << 20))
                        if not chunk:
                            raise HostError("the pack ends too early; run this again")
                        digest.update(chunk)
                        target.write(chunk)
                        left -= len(chunk)
                if digest.hexdigest() != sha:
                    raise HostError(f"the pack holds other bytes than sha256:{sha}; verify the DSL and run this again")
            if stream.read(1):
                raise HostError("the pack holds more than was asked for; run this again")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HostError(f"the pack is damaged ({error}); run this again") from error


def _flush(folder: Path) -> None:
    """Bring the file system of ``folder`` to disk: a complete release must still be complete after a power cut."""
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
    finally:
        os.close(descriptor)
