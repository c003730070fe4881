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
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Optional, Union

from .package_documents import Documents, read_package
from .pieces import Assembly, Sources, find_sources, take_up, unpack
from .release_home import HostError, ReleaseHome, changed_files, remove

if TYPE_CHECKING:
    from .mirror import Mirror

_DIRECTORY = 0o755
_MARGIN = 16 << 20  # bytes left free on the file system: logs and locks have to go on
_UNLINKABLE = (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP)


def stage(
    home: ReleaseHome,
    digest: str,
    documents: tuple[bytes, bytes, bytes],
    pack: Union[Path, BinaryIO, None],
    keep: int,
    protect: Sequence[str],
    token: int,
    deployment: str,
    mirror: Optional[Mirror] = None,
) -> dict[str, Any]:
    """Bring the release ``digest`` completely on this host.

    ``documents`` are manifest, config and file index. ``pack`` holds pieces that the host lacks; without one they are fetched from
    ``mirror``, if there is one. Returns ``state`` ``staged``, or ``lacking`` with the sha256s in ``need`` when the host still lacks
    some; and what is live now.
    """
    package = read_package(digest, *documents)
    if package.config["name"] != home.name:
        raise HostError(f"the package {digest} is {package.config['name']}, not {home.name}")
    version = package.config["version"]
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
        # By the package's own documents: who edited a file may have edited the record of it here as well.
        wrong = changed_files(replace(existing, files=package.files))
        if not wrong and (existing.files, existing.config) == (package.files, package.config):
            return result
        wrong = wrong or ["release.json"]
        if live is not None and live.id == existing.id:
            raise HostError(
                f"{home.name} {version} is live here but {len(wrong)} of its files were changed, {wrong[0]} first; "
                "find out who did it, then deploy another release or remove the change"
            )
    result["removed"] = home.sweep(keep, protect, release_id)

    work = home.staging / release_id
    try:
        with _umask(0o022):
            _build(home, package, digest, work, pack, mirror, result)
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        raise HostError(
            f"can't build {home.name} {version} in {work} ({error.strerror or error}); make room or mend the file system and run this again"
        ) from error
    if result["state"] == "staged":
        home.put(work, release_id)
        home.append("staged", release_id, version=version, digest=digest, deployment=deployment, token=token)
        result["changed"] = True
    return result


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Services read the tree as users of their own, whatever the umask of the one who stages."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _build(
    home: ReleaseHome,
    package: Documents,
    digest: str,
    work: Path,
    pack: Union[Path, BinaryIO, None],
    mirror: Optional[Mirror],
    result: dict[str, Any],
) -> None:
    """Make ``work`` a complete release and tell in ``result`` what it was made of; or say there what is lacking."""
    files = package.files
    tree = os.fsencode(work / "tree")
    _clear(work)
    done = take_up(work / "tree", files)
    sources = find_sources(home, files, tree, done)
    assembly = Assembly(home, files, tree, sources)
    # Everything that can go was swept by now.
    _check_room(home.staging, files, sources, done, assembly.already())
    result.update(sent=len(assembly.need), linked=len(sources.any))
    if assembly.need and pack is None and mirror is None:
        result.update(state="lacking", need=sorted(assembly.need))
        return
    work.mkdir(exist_ok=True)
    work.chmod(_DIRECTORY)  # also takes a set-gid bit away, before the tree inherits it
    late = _lay_out(tree, files, done, sources, assembly)
    assembly.begin()
    if pack is not None:
        unpack(pack, assembly, ((sha, size) for entry in files if entry["type"] == "file" for size, sha in _sizes(entry)))
    elif mirror is not None and assembly.need:
        result["mirror"] = mirror.fetch(package.payload, assembly)
    if assembly.need:
        result.update(state="lacking", need=sorted(assembly.need))
        return
    assembly.finish()
    for entry in late:
        _place_entry(assembly.path(entry), entry, sources)
    record = {"digest": digest, "config": package.config, "files": files}
    (work / "release.json").write_text(json.dumps(record, sort_keys=True), encoding="utf-8")
    _flush(work)


def _sizes(entry: dict[str, Any]) -> Iterator[tuple[int, str]]:
    yield entry["size"], entry["sha256"]
    yield from entry.get("chunks", ())


def _clear(work: Path) -> None:
    """Remove all that an interrupted staging left but the tree that it was building; room is counted after that."""
    if work.is_symlink() or not work.is_dir():
        remove(work)
        return
    for name in os.listdir(work):
        if name != "tree":
            remove(work / name)


def _check_room(folder: Path, files: list[dict[str, Any]], sources: Sources, done: set[str], already: int) -> None:
    """Raise :class:`HostError` unless ``folder`` has room for what is not on the host yet; ``already`` bytes of that are."""
    room = os.statvfs(folder)
    block = room.f_frsize
    new = {(entry["sha256"], entry["mode"]): entry["size"] for entry in files if entry["type"] == "file"}
    sizes = [size for kind, size in new.items() if kind not in sources.linkable]
    others = sum(entry["type"] != "file" and entry["path"] not in done for entry in files)
    need = _MARGIN + sum(-(-size // block) * block for size in sizes) + others * block - already
    free = room.f_bavail * block
    if need > free:
        raise HostError(f"{folder} needs {need >> 20} MiB but only {free >> 20} MiB are free; make room and run this again")
    count = len(sizes) + others
    if room.f_files and count > room.f_favail:
        raise HostError(f"{folder} needs {count} inodes but only {room.f_favail} are free; make room and run this again")


def _lay_out(tree: bytes, files: list[dict[str, Any]], done: set[str], sources: Sources, assembly: Assembly) -> list[dict[str, Any]]:
    """Make what can be made without any piece, contents that the host has by hard link; return the files that have to wait for theirs."""
    late = []
    resumed = os.path.isdir(tree)
    if not resumed:
        os.mkdir(tree, _DIRECTORY)
    for entry in files:
        if entry["path"] in done:
            continue
        path = assembly.path(entry)
        if entry["type"] == "directory":
            os.mkdir(path, _DIRECTORY)
        elif entry["type"] == "link":
            os.symlink(entry["target"].encode(), path)
        else:
            target = assembly.target(entry["sha256"])
            if resumed and target != path:
                remove(Path(os.fsdecode(path)))  # half a large file that is here whole by now
            if target is None:
                _place_entry(path, entry, sources)
            elif target == path:
                sources.any[entry["sha256"]] = sources.linkable[entry["sha256"], entry["mode"]] = path
            else:
                late.append(entry)
    return late


def _place_entry(path: bytes, entry: dict[str, Any], sources: Sources) -> None:
    kind = (entry["sha256"], entry["mode"])
    _place(path, sources.linkable.get(kind), sources.any[entry["sha256"]], entry["mode"])
    sources.linkable[kind] = path


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
