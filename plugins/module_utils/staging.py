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
import gzip
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Optional

from .release_home import HostError, ReleaseHome, changed_files, sha256_file

_INDEX = "application/vnd.tidegate.release.index.v1+json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MARGIN = 16 << 20  # bytes left free on the file system: logs and locks have to go on


def read_package(digest: str, manifest: bytes, config: bytes, index: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Check the package's documents against ``digest``; return its config and the entries of its file index."""
    if f"sha256:{hashlib.sha256(manifest).hexdigest()}" != digest:
        raise HostError(f"the package manifest is not {digest}; archive and deploy again")
    document = json.loads(manifest)
    wanted = {document["config"]["digest"]: config}
    wanted.update({layer["digest"]: index for layer in document["layers"] if layer["mediaType"] == _INDEX})
    if len(wanted) != 2:
        raise HostError(f"the package {digest} has no file index; archive it again")
    for name, blob in wanted.items():
        if f"sha256:{hashlib.sha256(blob).hexdigest()}" != name:
            raise HostError(f"a document of package {digest} is not {name}; verify the DSL")
    files = json.loads(index)["files"]
    for entry in files:
        path = PurePosixPath(entry["path"])
        if path.is_absolute() or not path.parts or ".." in path.parts or str(path) != entry["path"]:
            raise HostError(f"the package {digest} has a file with the path {entry['path']!r}; archive it again")
        if entry["type"] == "file" and (not _SHA256.fullmatch(entry["sha256"]) or entry["mode"] & ~0o777):
            raise HostError(f"the package {digest} has a bad entry for {entry['path']!r}; archive it again")
    return json.loads(config), files


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
    if existing is not None and existing.digest == digest:
        wrong = changed_files(existing)
        if not wrong:
            return result
        if live is not None and live.id == existing.id:
            raise HostError(
                f"{home.name} {version} is live here but {len(wrong)} of its files were changed, {wrong[0]} first; "
                "find out who did it, then deploy another release or remove the change"
            )
        existing.tree.parent.rename(home.staging / f"damaged-{release_id}")
    result["removed"] = home.sweep(keep, [*protect, digest], release_id)

    work = home.staging / release_id
    sources = _sources(home, files, work / "contents")
    contents = {entry["sha256"]: entry["size"] for entry in files if entry["type"] == "file"}
    lacking = sorted(sha for sha in contents if sha not in sources)
    _check_room(home.staging, sum(contents[sha] for sha in lacking), len(files))
    if lacking and pack is None:
        result.update(state="lacking", need=lacking)
        return result
    try:
        _build(work, files, sources, lacking, contents, pack)
        record = {"digest": digest, "config": config, "files": files}
        (work / "release.json").write_text(json.dumps(record, sort_keys=True), encoding="utf-8")
        _flush(work)
        work.rename(home.releases / release_id)
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        raise HostError(f"can't build {home.name} {version} in {work}: {error.strerror or error}") from error
    home.append("staged", release_id, version=version, digest=digest, deployment=deployment, token=token)
    result.update(changed=True, sent=len(lacking), linked=len(contents) - len(lacking))
    return result


def _sources(home: ReleaseHome, files: list[dict[str, Any]], unpacked: Path) -> dict[str, Path]:
    """Where the host already has a content: unpacked by an interrupted staging, or in another release.

    Each candidate is hashed before it counts, so a file that somebody edited can't spread into the new release.
    """
    wanted = {(entry["sha256"], entry["size"]) for entry in files if entry["type"] == "file"}
    candidates = [(entry, unpacked / entry["sha256"]) for entry in files if entry["type"] == "file"]
    for release in home.all():
        candidates += [(entry, release.tree / entry["path"]) for entry in release.files if entry["type"] == "file"]
    found: dict[str, Path] = {}
    for entry, path in candidates:
        sha = entry["sha256"]
        if sha in found or (sha, entry["size"]) not in wanted:
            continue
        with contextlib.suppress(OSError):
            if path.lstat().st_size == entry["size"] and sha256_file(path) == sha:
                found[sha] = path
    return found


def _check_room(folder: Path, size: int, count: int) -> None:
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if size + _MARGIN > free:
        raise HostError(f"{folder} needs {(size + _MARGIN) >> 20} MiB but only {free >> 20} MiB are free; make room and run this again")
    if room.f_files and count > room.f_favail:
        raise HostError(f"{folder} needs {count} inodes but only {room.f_favail} are free; make room and run this again")


def _build(
    work: Path,
    files: list[dict[str, Any]],
    sources: dict[str, Path],
    lacking: list[str],
    sizes: dict[str, int],
    pack: Optional[Path],
) -> None:
    """Make ``work/tree``; contents come from ``sources`` by hard link, the lacking ones out of the pack."""
    tree = work / "tree"
    if tree.exists():
        shutil.rmtree(tree)
    tree.mkdir(parents=True)
    contents = work / "contents"
    contents.mkdir(exist_ok=True)
    have = dict(sources)
    if pack is not None and lacking:
        _unpack(pack, lacking, sizes, contents)
        have.update({sha: contents / sha for sha in lacking})
    for entry in sorted(files, key=lambda entry: str(entry["path"])):
        path = tree / entry["path"]
        if entry["type"] == "directory":
            path.mkdir()
            path.chmod(0o755)
        elif entry["type"] == "link":
            path.symlink_to(entry["target"])
        else:
            _place(have[entry["sha256"]], path, entry)
    shutil.rmtree(contents)


def _place(source: Path, path: Path, entry: dict[str, Any]) -> None:
    """Put a content at ``path``: linked where the mode agrees, copied where it doesn't."""
    if source.parent.name == "contents" and source.stat().st_nlink == 1:
        source.chmod(entry["mode"])
    if (source.stat().st_mode & 0o7777) == entry["mode"]:
        os.link(source, path, follow_symlinks=False)
    else:
        shutil.copyfile(source, path)
        path.chmod(entry["mode"])


def _unpack(pack: Path, lacking: list[str], sizes: dict[str, int], folder: Path) -> None:
    """Write each lacking content to ``folder``; the pack is their plain concatenation in this order, gzipped."""
    try:
        with gzip.open(pack, "rb") as stream:
            for sha in lacking:
                digest = hashlib.sha256()
                left = sizes[sha]
                (folder / sha).unlink(missing_ok=True)
                with (folder / sha).open("xb") as target:
                    while left:
                        chunk = stream.read(min(left, 1 << 20))
                        if not chunk:
                            raise HostError("the pack ends too early; run this again")
                        digest.update(chunk)
                        target.write(chunk)
                        left -= len(chunk)
                if digest.hexdigest() != sha:
                    raise HostError(f"the pack holds other bytes than sha256:{sha}; verify the DSL and run this again")
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
